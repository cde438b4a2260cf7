"""Shows the progress of a sweep, read from its run directories: a live table, or lines."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.training.tracking import clock, si

SECONDS_BETWEEN_LINES = 10.0


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """A run whose progress is shown.

    Attributes:
      name: the run's.
      directory: the run's.
      steps: how many it takes in all.
      flops: how many it takes in all; its weight in the sweep's progress.
    """

    name: str
    directory: RunDirectory
    steps: int
    flops: int

    def last_row(self) -> dict[str, Any]:
        """Returns the newest row of metrics, {} before the first."""
        rows = read_metrics(self.directory.metrics_file)
        return rows[-1] if rows else {}

    def fraction(self, row: dict[str, Any]) -> float:
        """Returns how much of the run is done at a row, from 0 to 1."""
        return row.get("step", 0) / self.steps

    def columns(self, row: dict[str, Any], is_running: bool) -> tuple[str, ...]:
        """Returns percent, loss, tokens/s and FLOP/s at a row; before it, what is going on."""
        speed = row.get("tokens_per_second")
        doing = "queued" if not is_running else "preparing data"
        if is_running and self.directory.history_file.exists():
            doing = "compiling"  # A line of the history is written when the data are there.
        return (
            f"{100 * self.fraction(row):.0f} %",
            f"loss {row['loss']:.3f}" if row.get("loss") is not None else doing,
            f"{si(speed)}tokens/s" if speed else "",
            f"{si(row['model_flops_per_second'])}FLOP/s" if speed else "",
        )


class ProgressDisplay(Protocol):
    """Shows the progress of a sweep."""

    def show(self, running: set[Path], failed: set[Path], stopped: Set[Path] = frozenset()) -> None:
        """Shows the progress now, unless it was shown a moment ago."""
        ...


@contextlib.contextmanager
def progress_display(runs: Sequence[TrackedRun]) -> Iterator[ProgressDisplay]:
    """Opens a live table on a terminal, plain lines elsewhere."""
    progress = Progress(runs)
    if not sys.stdout.isatty():
        yield ProgressLines(progress)
        return
    from rich.live import Live

    with Live(refresh_per_second=1) as live:
        yield ProgressTable(progress, live)


class Progress:
    """The share of a sweep that is done, and the time for the rest at the speeds seen so far."""

    def __init__(self, runs: Sequence[TrackedRun]):
        self._runs = runs
        self._started = time.monotonic()

    def read(self) -> list[tuple[TrackedRun, dict[str, Any]]]:
        """Returns each run with its newest row."""
        return [(run, run.last_row()) for run in self._runs]

    def summary(self, rows: list[tuple[TrackedRun, dict[str, Any]]], jobs: int) -> str:
        """Returns the percentage of the FLOPs, the time so far and the time left.

        The rest goes on at the FLOP/s of the runs that are nearest in FLOPs, so many at a time;
        what a start and an evaluation take is not in it.

        Args:
          rows: of each run its newest.
          jobs: runs at a time.
        """
        total = sum(run.flops for run, _ in rows)
        done = sum(run.flops * run.fraction(row) for run, row in rows)
        seconds = time.monotonic() - self._started
        parts = [f"{100 * done / total:3.0f} %", f"{clock(seconds)} elapsed"]
        speeds = {
            run.flops: speed for run, row in rows if (speed := row.get("model_flops_per_second"))
        }
        if speeds and jobs:
            sizes = np.log(sorted(speeds))
            known = np.log([speeds[size] for size in sorted(speeds)])
            left = sum(
                run.flops
                * (1 - run.fraction(row))
                / np.exp(np.interp(np.log(run.flops), sizes, known))
                for run, row in rows
            )
            parts.append(f"{clock(left / jobs)} left")
        return "  ".join(parts)


class ProgressLines:
    """Prints a line for the sweep and for each running run, every few seconds."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self._last = -float("inf")
        self._was_running: set[Path] = set()

    def show(self, running: set[Path], failed: set[Path], stopped: Set[Path] = frozenset()) -> None:
        """Prints the lines if the last ones are old enough, or a run has ended."""
        ended = self._was_running - running
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES and not ended:
            return
        self._last, self._was_running = now, set(running)
        rows = self._progress.read()
        for run, row in rows:
            path = run.directory.path
            if path in running or path in ended:
                state = "failed" if path in failed else "stopped early" if path in stopped else ""
                state = state or ("done" if path in ended else "")
                columns = run.columns(row, path in running)
                print("  ".join(["   ", run.name, *columns, state]).rstrip())
        print(self._progress.summary(rows, len(running)), flush=True)


class ProgressTable:
    """Draws a live table of all runs."""

    def __init__(self, progress: Progress, live: Any):
        self._progress = progress
        self._live = live

    def show(self, running: set[Path], failed: set[Path], stopped: Set[Path] = frozenset()) -> None:
        """Draws the table."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        rows = self._progress.read()
        table = Table(title=self._progress.summary(rows, len(running)), title_justify="left")
        for heading in ("run", "progress", "done", "training loss", "speed", "FLOP/s"):
            table.add_column(heading)
        for run, row in rows:
            path = run.directory.path
            style = "red" if path in failed else "yellow" if path in stopped else "dim"
            style = "bold" if path in running else style
            bar = ProgressBar(total=run.steps, completed=row.get("step", 0), width=24)
            percent, *rest = run.columns(row, path in running)
            percent = "stopped" if path in stopped else "failed" if path in failed else percent
            table.add_row(run.name, bar, percent, *rest, style=style)
        self._live.update(table)
