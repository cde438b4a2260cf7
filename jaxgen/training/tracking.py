"""Trackers take the rows of a run: metrics.jsonl, TensorBoard, and the terminal.

A tracker of one's own is a frozen dataclass with `open`, bound in `execution.trackers`. It runs in
a thread of its own (`tracker_thread`): its errors and delays are no concern of training.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
import warnings
from typing import Any, Protocol, runtime_checkable

from jaxgen.errors import CheckpointError, JaxgenWarning
from jaxgen.files import append_rows, close_cut_row

MOST_UNWRITTEN = 10_000
"""Rows that are kept in memory while a disk refuses them."""


class Tracker(Protocol):
    """Receives the rows of a run."""

    def log(self, row: dict[str, Any]) -> None:
        """Takes one row; row["step"] says which."""
        ...

    def close(self) -> None:
        """Ends the run."""
        ...


@runtime_checkable
class TrackerConfig(Protocol):
    """Settings of a tracker, which is opened when a run starts."""

    def open(self, run_dir: pathlib.Path) -> Tracker:
        """Returns the tracker of the run in a directory."""
        ...


class MetricsFile:
    """Appends to metrics.jsonl, each row in one piece.

    Rows that a full disk refuses are kept and written with a later one.
    """

    def __init__(self, path: pathlib.Path):
        """Removes what a kill left of a row that it cut short."""
        self._path = path
        self._unwritten: list[dict[str, Any]] = []
        close_cut_row(path)

    def log(self, row: dict[str, Any]) -> None:
        """Appends the row.

        Raises:
          CheckpointError: if so many rows could not be written that memory must be spared.
        """
        self._unwritten.append(row)
        try:
            self._flush()
        except CheckpointError as error:
            if len(self._unwritten) >= MOST_UNWRITTEN:
                raise
            if len(self._unwritten) == 1:
                warnings.warn(
                    f"{error} The rows are kept until there is room.", JaxgenWarning, stacklevel=2
                )

    def close(self) -> None:
        """Appends the rows that could not be written before.

        Raises:
          CheckpointError: if they still cannot.
        """
        self._flush()

    def _flush(self) -> None:
        if self._unwritten:
            append_rows(self._path, self._unwritten)
            self._unwritten = []


@dataclasses.dataclass(frozen=True)
class TensorBoard:
    """Writes the rows for TensorBoard.

    Attributes:
      folder: in the run's directory.
    """

    folder: str = "tensorboard"

    def open(self, run_dir: pathlib.Path) -> Tracker:
        """Returns the tracker of the run in a directory."""
        return TensorBoardWriter(run_dir / self.folder)


class TensorBoardWriter:
    """Writes every number of a row as a TensorBoard scalar, at once, in the caller's thread.

    The library's own writer has a thread that a full disk ends, and its queue then blocks.
    """

    def __init__(self, folder: pathlib.Path):
        from tensorboardX.event_file_writer import EventsWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._writer: Any = EventsWriter(str(folder / "events"))

    def log(self, row: dict[str, Any]) -> None:
        """Adds the row's scalars; lists, such as the experts' loads, are left to metrics.jsonl."""
        from tensorboardX.proto import event_pb2
        from tensorboardX.summary import scalar

        for name, value in row.items():
            if isinstance(value, int | float) and name != "step":
                event: Any = event_pb2.Event(wall_time=time.time(), summary=scalar(name, value))  # pyright: ignore[reportAttributeAccessIssue]
                event.step = int(row["step"])
                self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Flushes."""
        self._writer.close()


class PlainProgress:
    """A line now and then, for logs and pipes."""

    def __init__(self, name: str, total_steps: int, seconds_between_lines: float = 5.0):
        self._name, self._total = name, total_steps
        self._between = seconds_between_lines
        self._last = -float("inf")

    def log(self, row: dict[str, Any]) -> None:
        """Prints the row if the last line is old enough, or if the run is over."""
        now = time.monotonic()
        if now - self._last < self._between and row["step"] < self._total:
            return
        self._last = now
        print(f"{self._name}: {describe(row, self._total)}", flush=True)

    def close(self) -> None:
        """Does nothing."""


class TerminalProgress:
    """One live bar on a terminal."""

    def __init__(self, name: str, total_steps: int):
        from rich.progress import BarColumn, Progress, TextColumn

        self._total = total_steps
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
        self._progress = Progress(*columns)
        self._task = self._progress.add_task(name, total=total_steps, text="compiling")
        self._progress.start()

    def log(self, row: dict[str, Any]) -> None:
        """Moves the bar."""
        text = describe(row, self._total)
        self._progress.update(self._task, completed=row["step"], text=text)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._progress.stop()


def progress(name: str, total_steps: int) -> Tracker:
    """Returns the live bar on a terminal, plain lines elsewhere."""
    return (TerminalProgress if sys.stdout.isatty() else PlainProgress)(name, total_steps)


def describe(row: dict[str, Any], total_steps: int) -> str:
    """Returns percent, step, loss, speed and time left, on one line."""
    parts = [f"{100 * row['step'] / total_steps:3.0f} %", f"step {row['step']}/{total_steps}"]
    if row.get("loss") is not None:
        parts.append(f"loss {row['loss']:.4f}")
    heldout = [value for name, value in row.items() if name.startswith("heldout_loss/")]
    if heldout:
        parts.append(f"held-out {sum(heldout) / len(heldout):.4f}")
    if row.get("tokens_per_second"):
        parts.append(f"{si(row['tokens_per_second'])} tokens/s")
        parts.append(f"{si(row['model_flops_per_second'])}FLOP/s")
        if row.get("mfu"):
            parts.append(f"MFU {100 * row['mfu']:.1f} %")
        parts.append(f"{clock(row['seconds_left'])} left")
    return "  ".join(parts)


def si(value: float) -> str:
    """Returns a number with a metric prefix: 12.3k, 4.56M."""
    for factor, letter in (
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
    ):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:.3g} "


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
