"""How a study stands, read from its run directories: a live table, or lines now and then."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Protocol

from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.training.tracking import clock, si

SECONDS_BETWEEN_LINES = 10.0


@dataclasses.dataclass(frozen=True)
class Standing:
    """A run of a study.

    Attributes:
      name: the run's.
      directory: the run's.
      steps: it will take.
      flops: it will take; the weight of the run in the study's progress.
    """

    name: str
    directory: RunDirectory
    steps: int
    flops: int

    def row(self) -> dict:
        """The newest row of metrics, {} before the first."""
        rows = read_metrics(self.directory.metrics_file)
        return rows[-1] if rows else {}


class Watch(Protocol):
    """Shows how a study stands."""

    def show(self, running: set[Path], failed: set[Path], stopped: Set[Path] = frozenset()) -> None:
        """Shows it now, or lets it be if it was just shown."""
        ...


@contextlib.contextmanager
def watcher(standings: Sequence[Standing]) -> Iterator[Watch]:
    """A live table on a terminal, plain lines elsewhere."""
    progress = Progress(standings)
    if not sys.stdout.isatty():
        yield Lines(progress)
        return
    from rich.live import Live

    with Live(refresh_per_second=4) as live:
        yield Table(progress, live)


class Progress:
    """How much of a study is done, and how long the rest takes at the pace so far."""

    def __init__(self, standings: Sequence[Standing]):
        self.standings = standings
        self._started = time.monotonic()
        self._done_before: float | None = None

    def read(self) -> list[tuple[Standing, dict]]:
        """Each run with its newest row."""
        return [(standing, standing.row()) for standing in self.standings]

    def summary(self, rows: list[tuple[Standing, dict]]) -> str:
        """Percent of the FLOPs, time so far, time left."""
        total = sum(standing.flops for standing, _ in rows)
        done = sum(standing.flops * share(standing, row) for standing, row in rows)
        if self._done_before is None:
            self._done_before = done
        seconds = time.monotonic() - self._started
        parts = [f"{100 * done / total:3.0f} %", f"{clock(seconds)} elapsed"]
        if done > self._done_before:
            left = (total - done) * seconds / (done - self._done_before)
            parts.append(f"{clock(left)} left")
        return "  ".join(parts)


def share(standing: Standing, row: dict) -> float:
    """How much of a run is done, from 0 to 1."""
    return row.get("step", 0) / standing.steps


def columns(standing: Standing, row: dict) -> tuple[str, ...]:
    """Percent, loss, tokens/s, FLOP/s."""
    speed = row.get("tokens_per_second")
    return (
        f"{100 * share(standing, row):.0f} %",
        f"loss {row['loss']:.3f}" if row.get("loss") is not None else "starting",
        f"{si(speed)}tokens/s" if speed else "",
        f"{si(row['model_flops_per_second'])}FLOP/s" if speed else "",
    )


class Lines:
    """A line for the study and each running run, every few seconds."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self._last = -float("inf")
        self._was_running: set[Path] = set()

    def show(self, running: set[Path], failed: set[Path], stopped: Set[Path] = frozenset()) -> None:
        """Prints if the last lines are old enough, or a run has ended."""
        ended = self._was_running - running
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES and not ended:
            return
        self._last, self._was_running = now, set(running)
        rows = self._progress.read()
        for standing, row in rows:
            path = standing.directory.path
            if path in running or path in ended:
                state = "failed" if path in failed else "stopped" if path in stopped else ""
                state = state or ("done" if path in ended else "")
                print("  ".join(["   ", standing.name, *columns(standing, row), state]).rstrip())
        print(self._progress.summary(rows), flush=True)


class Table:
    """A live table of all runs."""

    def __init__(self, progress: Progress, live):
        self._progress = progress
        self._live = live

    def show(self, running: set[Path], failed: set[Path], stopped: Set[Path] = frozenset()) -> None:
        """Draws the table."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table as RichTable

        rows = self._progress.read()
        table = RichTable(title=self._progress.summary(rows), title_justify="left")
        for heading in ("run", "", "", "loss", "tokens/s", "FLOP/s"):
            table.add_column(heading)
        for standing, row in rows:
            path = standing.directory.path
            style = "red" if path in failed else "yellow" if path in stopped else "dim"
            style = "bold" if path in running else style
            bar = ProgressBar(total=standing.steps, completed=row.get("step", 0), width=24)
            percent, *rest = columns(standing, row)
            percent = "stopped" if path in stopped else "failed" if path in failed else percent
            table.add_row(standing.name, bar, percent, *rest, style=style)
        self._live.update(table)
