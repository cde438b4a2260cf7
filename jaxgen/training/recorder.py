"""Collects what steps report, refuses what is not finite, and makes the rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxgen.chips import peak_of
from jaxgen.errors import NotFiniteError
from jaxgen.training.divergence import Guard
from jaxgen.training.metrics import WindowSums
from jaxgen.training.program import Program
from jaxgen.training.step import StepMetrics
from jaxgen.training.timing import PhaseClock
from jaxgen.training.tracking import Tracker


class Recorder:
    """Turns the metrics of steps into rows, one step behind the device.

    Reading a step's figures waits for it, so they are read when the next step is on its way, and
    at once only where a row or a checkpoint needs them.

    Attributes:
      window: sums since the last row.
      guard: is shown every loss; None: one that is not finite is an error.
      skipped: the steps without an update since it was last emptied, and where they were not
        finite.
    """

    def __init__(
        self,
        program: Program,
        trackers: Sequence[Tracker],
        window: WindowSums,
        guard: Guard | None = None,
        clock: PhaseClock | None = None,
    ):
        self.window = window
        self.guard = guard
        self.skipped: list[tuple[int, str]] = []
        self._program = program
        self._trackers = trackers
        self._pending: tuple[int, StepMetrics] | None = None
        self._phases = PhaseClock() if clock is None else clock
        self._clock: float | None = None
        self._clocked_tokens = 0

    def add(self, step: int, metrics: StepMetrics) -> None:
        """Takes a step's metrics and reads those of the step before it.

        Raises:
          NotFiniteError: if a loss or gradient is not finite, and there is no guard.
        """
        self._read()
        self._pending = (step, metrics)

    def settle(self) -> None:
        """Reads what is still pending; raises NotFiniteError as `add` does."""
        self._read()

    def write_row(self, step: int, measure: Callable[[], dict[str, float]]) -> None:
        """Hands a row of the steps since the last one to the trackers.

        `measure` returns further columns; the time that it takes counts as no step's.
        """
        self._read()
        row: dict[str, Any] = {"step": step, "tokens": self._program.tokens_before(step)}
        row |= self.window.row()
        row["learning_rate"] = float(self._program.schedule(step - 1))
        row |= self._speed(step) | _memory(self._program.mesh.local_devices)
        row |= measure()
        row |= self._phases.columns(step)
        self._clock = time.monotonic()
        self.window = WindowSums()
        for tracker in self._trackers:
            tracker.log(row)

    def _read(self) -> None:
        if self._pending is None:
            return
        step, metrics = self._pending
        self._pending = None
        figures = jax.device_get(metrics)
        is_finite = math.isfinite(figures.objective + figures.gradient_norm)
        if self.guard is not None:
            self.guard.see(step, float(figures.objective), is_finite)
        elif not is_finite:
            raise NotFiniteError(_not_finite(step, figures))
        if is_finite:
            self.window.add(figures)
        else:
            self.window.skipped += 1
            self.skipped.append((step, where_not_finite(figures)))
        if self._clock is None:  # The first step of a process is mostly compilation.
            self._clock = time.monotonic()
        else:
            tokens_before = self._program.tokens_before
            self._clocked_tokens += tokens_before(step) - tokens_before(step - 1)

    def _speed(self, step: int) -> dict[str, float | None]:
        tokens, self._clocked_tokens = self._clocked_tokens, 0
        now = time.monotonic()
        seconds = now - self._clock if self._clock is not None else 0.0
        self._clock = now
        if tokens == 0 or seconds <= 0:
            return {"tokens_per_second": None, "model_flops_per_second": None, "seconds_left": None}
        program = self._program
        tokens_per_second = tokens / seconds
        left = program.tokens_before(program.total_steps) - program.tokens_before(step)
        flops_per_token = program.model.flops(program.train.length)
        peak = peak_of(program.mesh.devices.flat[0].device_kind)
        used = {}
        if peak is not None:
            used["mfu"] = tokens_per_second * flops_per_token / (peak * program.mesh.size)
        return {
            "tokens_per_second": tokens_per_second,
            "model_flops_per_second": tokens_per_second * flops_per_token,
            "seconds_left": left / tokens_per_second,
            **used,
        }


def _memory(devices: Sequence[Any]) -> dict[str, int]:
    """Returns the most memory that a device has used so far, where devices tell: not on CPU."""
    told = [stats for device in devices if (stats := device.memory_stats())]
    if not told:
        return {}
    peaks = [stats["peak_bytes_in_use"] for stats in told if "peak_bytes_in_use" in stats]
    limits = [stats["bytes_limit"] for stats in told if "bytes_limit" in stats]
    return ({"peak_memory_bytes": max(peaks)} if peaks else {}) | (
        {"memory_limit_bytes": min(limits)} if limits else {}
    )


def where_not_finite(figures: StepMetrics) -> str:
    """Returns whether it was the gradient alone, or which tasks' losses."""
    loss = figures.sums.get("loss")
    tasks = []
    if loss is not None and loss.labels:
        pairs = zip(loss.labels, loss.total, strict=True)
        tasks = [name for name, total in pairs if not math.isfinite(total)]
    return f"the loss of {', '.join(tasks)}" if tasks else "the gradient"


def _not_finite(step: int, figures: StepMetrics) -> str:
    return (
        f"{where_not_finite(figures)} is not finite at step {step}; that step was not saved and "
        "earlier checkpoints are whole. Lower the schedule's peak, lengthen its warmup, lower "
        "train.clip_norm or give the objective a z_loss, and start in a new --run_dir; "
        "or let it skip such steps (train.divergence = @divergence())."
    )
