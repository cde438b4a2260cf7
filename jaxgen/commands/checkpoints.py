"""`jaxgen checkpoints`: what a run keeps and why, whether it is whole, and what may go."""

from __future__ import annotations

import argparse
import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxgen.commands.table import table_lines
from jaxgen.errors import CheckpointError, DataError
from jaxgen.process import prepare_process
from jaxgen.runs.checkpoint_writing import UNFINISHED
from jaxgen.runs.checkpoints import DAMAGED, REWOUND
from jaxgen.runs.history import read_starts
from jaxgen.runs.mirror.store import Mirror
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.runs.slim import slim_copy
from jaxgen.runs.verification import verify

ASIDE = {
    f"{DAMAGED}-*": "damaged, set aside",
    f"{REWOUND}-*": "left by a run that went back",
    UNFINISHED: "a save that was not finished",
}
"""Patterns of what is no checkpoint, and what it is."""


def checkpoints(arguments: argparse.Namespace) -> int:
    """Prints the checkpoints of a run. Returns 1 if one of them is damaged.

    Args:
      arguments: `run_dir`; `verify`, whether to read all of them; `prune`, whether to remove what
        is no checkpoint, and with `keep` all but so many of the newest and those kept for good;
        `slim`, a folder for a copy that only generates and evaluates, or None.
    """
    directory = RunDirectory(arguments.run_dir)
    if not directory.config_file.exists():
        raise CheckpointError(f"{directory.path} is not a run directory: it has no config.gin.")
    if arguments.keep is not None and not arguments.prune:
        raise CheckpointError("--keep says how many --prune leaves: give both.")
    if arguments.prune:
        with directory.lock():
            for folder in _to_go(directory, arguments.keep):
                shutil.rmtree(folder)
                print(f"removed {folder}")
    if arguments.verify or arguments.slim is not None:
        prepare_process()
    problems = verify(directory) if arguments.verify else {}
    print("\n".join(_lines(directory, problems)))
    if (mirror := _execution(directory).get("mirror")) is not None:
        print(_mirror_line(mirror))
    if arguments.slim is not None:
        step = slim_copy(directory, Path(arguments.slim))
        print(f"the model of step {step} is in {arguments.slim}")
    return int(any(problems.values()))


def _lines(directory: RunDirectory, problems: dict[int, str]) -> Iterator[str]:
    rows = [("step", "saved", "MB", "kept as")]
    steps = directory.saved_steps()
    newest, every = _policy(directory)
    for step in steps:
        why = ["one of the newest"] if step in steps[-newest:] else []
        if every and step % every == 0:
            why.append(f"one of every {every} steps")
        if step in problems:
            why.append(f"DAMAGED: {problems[step]}" if problems[step] else "whole")
        folder = directory.checkpoints / str(step)
        rows.append((str(step), *_facts(folder), "; ".join(why) or "a former setting kept it"))
    for folder, what in _no_checkpoints(directory):
        rows.append((folder.name, *_facts(folder), what))
    yield from table_lines(rows, left=1) if len(rows) > 1 else ["no checkpoint"]


def _facts(folder: Path) -> tuple[str, str]:
    """Returns when a folder was written, and its size in MB."""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    when = datetime.datetime.fromtimestamp(folder.stat().st_mtime)
    return when.strftime("%Y-%m-%d %H:%M"), f"{size / 1e6:.1f}"


def _policy(directory: RunDirectory) -> tuple[int, int]:
    """Returns how many of the newest the last start keeps, and every how many steps one for good.

    Of a directory that no training has written, all are its newest.
    """
    newest = _execution(directory).get("keep_checkpoints") or len(directory.saved_steps()) or 1
    return newest, _last_start(directory).get("keep_every", 0)


def _last_start(directory: RunDirectory) -> dict[str, Any]:
    return next(reversed(read_starts(directory.history_file)), {})


def _execution(directory: RunDirectory) -> dict[str, Any]:
    return _last_start(directory).get("execution", {})


def _mirror_line(url: str) -> str:
    try:
        steps = Mirror(url).whole_steps()
    except DataError as error:
        return f"the mirror cannot be read: {error}"
    return f"{url} has whole copies of steps {', '.join(map(str, steps)) or 'none'}"


def _no_checkpoints(directory: RunDirectory) -> Iterator[tuple[Path, str]]:
    for pattern, what in ASIDE.items():
        for folder in sorted(directory.checkpoints.glob(pattern)):
            yield folder, what


def _to_go(directory: RunDirectory, keep: int | None) -> list[Path]:
    folders = [folder for folder, _ in _no_checkpoints(directory)]
    if keep is not None:
        _, every = _policy(directory)
        older = directory.saved_steps()[:-keep]
        folders += [
            directory.checkpoints / str(step) for step in older if not every or step % every
        ]
    return folders
