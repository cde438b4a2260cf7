"""The time of a run: what it goes into, and how much of it counts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Literal

Phase = Literal["compiling", "data", "rollout", "step", "checkpoint", "evaluation"]
COLUMNS: dict[Phase, str] = {
    "compiling": "compile_seconds",
    "data": "data_wait_seconds",
    "rollout": "rollout_seconds",
    "step": "step_seconds",
    "checkpoint": "checkpoint_seconds",
    "evaluation": "evaluation_seconds",
}
"""Columns of a row: seconds that a process of the run spent so since its last row."""
TIMING_COLUMNS = frozenset(
    {*COLUMNS.values(), "goodput", "tokens_per_second", "model_flops_per_second", "seconds_left"}
)
"""Columns that differ from one execution of the same run to the next."""


class PhaseClock:
    """Splits the time of a process: at each moment it is in one phase.

    Devices work ahead of the process that directs them, so "step" is the time that it waits for
    them, and a wait for data that a step hides takes up no time of its own.

    Args:
      first_started: when the run was started for the first time, in seconds since 1970; None: now.
      rows: the step and the seconds in steps of each row so far, ascending.
    """

    def __init__(self, first_started: float | None = None, rows: Iterable[tuple[int, float]] = ()):
        self.phase: Phase = "compiling"
        self._rows = list(rows)
        self._first_started = time.time() if first_started is None else first_started
        self._since = time.monotonic()
        self._seconds: dict[Phase, float] = dict.fromkeys(COLUMNS, 0.0)

    def enter(self, phase: Phase) -> None:
        """Ends the present phase and begins another, or the same anew."""
        now = time.monotonic()
        self._seconds[self.phase] += now - self._since
        self.phase, self._since = phase, now

    def go_on_from(self, step: int) -> None:
        """Forgets the time of steps after this one, which are lost."""
        self._rows = [(at, seconds) for at, seconds in self._rows if at <= step]
        self._seconds["step"] = 0.0

    def goodput(self) -> float:
        """Returns the share of the time since the run's first start that its steps took.

        Time when nothing ran, starts, compilation, waits for data, checkpoints, evaluation and
        steps that were lost are what is missing of 1. That is the ML productivity goodput of Google
        Cloud ("Introducing ML Productivity Goodput", 2024): its scheduling and runtime parts, where
        the third, the MFU of the steps, has a column of its own.
        """
        whole = time.time() - self._first_started
        productive = sum(seconds for _, seconds in self._rows)
        return min(1.0, productive / whole) if whole > 0 else 0.0

    def columns(self, step: int) -> dict[str, float]:
        """Returns the columns of the row of a step, and begins to count the next row's."""
        self.enter(self.phase)
        self._rows.append((step, self._seconds["step"]))
        # Only a run that samples from its own model has rollouts.
        row = {
            COLUMNS[phase]: seconds
            for phase, seconds in self._seconds.items()
            if seconds or phase != "rollout"
        }
        self._seconds = dict.fromkeys(COLUMNS, 0.0)
        return row | {"goodput": self.goodput()}
