"""`jaxgen runs` lists the runs of a folder; `jaxgen watch` shows the curves of one as it trains."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxgen.commands.table import table_lines
from jaxgen.errors import CheckpointError
from jaxgen.files import write_atomically
from jaxgen.json_values import is_finite
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.studies.plots import Axis, Figure, Plot, Section, line
from jaxgen.studies.report import page_of
from jaxgen.training.tracking import si

DEPTH = 3
"""Folders below the one that is named in which runs are looked for."""
COLUMNS = ("run", "state", "step", "loss", "held-out", "tokens/s", "last row")
CURVES = (
    ("Loss", "nats/token", ("loss", "heldout_loss/")),
    ("Bits a byte", "bits/byte", ("heldout_bits_per_byte/",)),
    ("Gradient norm", "norm before clipping", ("gradient_norm",)),
    ("Learning rate", "learning rate", ("learning_rate",)),
    ("Speed", "tokens/s", ("tokens_per_second",)),
)
"""Of each figure its title, its vertical axis, and the columns (or what they begin with)."""


def listing(arguments: argparse.Namespace) -> int:
    """Prints a line for each run below a folder: state, step, losses, speed, time of its last row.

    Returns 1 where one cannot be read.

    Args:
      arguments: `folder`.
    """
    folder = Path(arguments.folder)
    rows, faults = [], []
    for directory in _runs_below(folder):
        try:
            rows.append(_row(directory, folder))
        except CheckpointError as error:  # One run that is damaged hides no other.
            name = os.path.relpath(directory.path, folder)
            rows.append((name, "unreadable", *[""] * (len(COLUMNS) - 2)))
            faults.append(error)
    if not rows:
        print(f"no run in {folder}, nor {DEPTH} folders below it")
        return 0
    print("\n".join(table_lines([COLUMNS, *rows], left=2)))
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


def watch(arguments: argparse.Namespace) -> int:
    """Writes a page of a run's curves again and again, until the run has finished.

    Args:
      arguments: `run_dir`, `output` or None, `every` (seconds), `once`.
    """
    directory = RunDirectory(arguments.run_dir)
    if not directory.config_file.exists():
        raise CheckpointError(f"{directory.path} is not a run directory: it has no config.gin.")
    path = Path(arguments.output or directory.path / "watch.html")
    print(f"open {path}; it draws itself anew every {arguments.every} s", flush=True)
    while True:
        is_over = arguments.once or directory.is_finished()
        write_atomically(path, _page(directory, None if is_over else arguments.every))
        if is_over:
            return 0
        time.sleep(arguments.every)


def _page(directory: RunDirectory, seconds: int | None) -> str:
    """Returns the page, which loads itself again after some seconds."""
    rows = read_metrics(directory.metrics_file)
    figures = [figure for curve in CURVES if (figure := _figure(rows, *curve)) is not None]
    lead = f"{' '.join(_row(directory, directory.path.parent)[1:3])} of {directory.path}"
    sections = [Section("curves", "Curves", "Curves", figures)]
    page = page_of(directory.path.name, lead, sections, {})
    again = "" if seconds is None else f'<meta http-equiv="refresh" content="{seconds}">'
    return page.replace("<head>", f"<head>{again}", 1)


def _figure(rows: Sequence[dict[str, Any]], title: str, unit: str, names: Sequence[str]) -> Any:
    """Returns the figure of some columns against steps; None if no row has any."""
    found = dict.fromkeys(
        column for row in rows for column in row for name in names
        if column == name or (name.endswith("/") and column.startswith(name))
    )  # fmt: skip
    series = []
    for place, column in enumerate(found):
        points = [row for row in rows if is_finite(row.get(column))]
        curve = {"x": [row["step"] for row in points], "y": [row[column] for row in points]}
        color = "accent" if column.startswith("heldout") else "dense"
        shade = 1.0 - 0.6 * place / max(1, len(found))
        series.append(line(curve, label=column, color=color, shade=shade))
    if not any(len(one.x) > 1 for one in series):
        return None
    return Figure((Plot(Axis("step"), Axis(unit), tuple(series), title),), title.lower())


def _runs_below(folder: Path) -> Iterator[RunDirectory]:
    for depth in range(DEPTH + 1):
        pattern = "/".join(["*"] * depth + ["config.gin"])
        for file in sorted(folder.glob(pattern)):
            yield RunDirectory(file.parent)


def _row(directory: RunDirectory, folder: Path) -> tuple[str, ...]:
    record = directory.read_record() if directory.run_file.exists() else {}
    rows = read_metrics(directory.metrics_file)
    last = rows[-1] if rows else {}
    losses = [one.get("loss") for one in record.get("evaluation", {}).values()]
    losses = [one for one in losses if one is not None]
    heldout = {name: value for name, value in last.items() if name.startswith("heldout_loss/")}
    losses = losses or [value for value in heldout.values() if is_finite(value)]
    step, total = last.get("step", 0), record.get("steps", "?")
    when = "" if not rows else _when(directory.metrics_file.stat().st_mtime)
    speed = last.get("tokens_per_second")
    return (
        os.path.relpath(directory.path, folder),
        state_of(directory, record, bool(rows)),
        f"{step}/{total}",
        "" if last.get("loss") is None else f"{last['loss']:.4f}",
        f"{sum(losses) / len(losses):.4f}" if losses else "",
        si(speed).strip() if speed else "",
        when,
    )


def state_of(directory: RunDirectory, record: dict[str, Any], has_rows: bool) -> str:
    """Returns what a run is doing: finished, running, imported, failed, stopped or not begun."""
    if record.get("finished"):
        return "finished"
    if directory.is_locked():
        return "running"
    if "failed" in record:
        return "failed"
    if "imported_from" in record and not has_rows:
        return "imported"
    return "stopped" if has_rows else "not begun"


def _when(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
