"""history.jsonl: a line for every start of a run, with how it was executed and what changed.

Between them are lines of what happened in training, each with an "event": an update that was
skipped, or that the run went back and left out some batches; and of each restart by the supervisor.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import platform
import shlex
import socket
import sys
from collections.abc import Sequence
from typing import Any

from jaxgen.files import append_rows, read_rows
from jaxgen.redaction import redacted
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.program import Program

START = {"step?": int, "mesh?": {str: int}}
"""The shape of a line."""
CHANGING = ("started", "step", "process_id", "changed")
"""What differs from start to start by itself."""


def append_start(
    path: pathlib.Path,
    program: Program,
    step: int,
    facts: dict[str, Any],
    data_changes: Sequence[str] = (),
) -> None:
    """Appends a line about a process that starts or continues a run.

    Args:
      path: of history.jsonl.
      program: what it is about to execute.
      step: the newest checkpoint's, from which it continues; 0 if there is none.
      facts: when and with what versions, see `provenance.environment`.
      data_changes: changes of the data's files that were accepted.
    """
    line = {
        "step": step,
        **facts,
        "host": socket.gethostname(),
        "process_id": os.getpid(),
        "platform": platform.platform(),
        "command": redacted(shlex.join(sys.argv)),
        "num_devices": program.mesh.size,
        "keep_every": program.keep_every,
        "execution": _execution(program.execution),
    }
    before, line = read_starts(path), json.loads(json.dumps(line))
    line["changed"] = [*(_changes(before[-1], line) if before else []), *data_changes]
    append_rows(path, [line])


def read_starts(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the lines of the starts."""
    return [line for line in read_rows(path, START) if "event" not in line]


def read_rewinds(path: pathlib.Path) -> list[tuple[int, int]]:
    """Returns what was left out each time that the run went back: after which step, how much."""
    return [line["skip"] for line in read_rows(path) if line.get("event") == "rewind"]


def _execution(execution: ExecutionConfig) -> dict[str, Any]:
    trackers = [redacted(repr(tracker)) for tracker in execution.trackers]
    return dataclasses.asdict(execution) | {"trackers": trackers}


def _changes(before: dict[str, Any], after: dict[str, Any], path: str = "") -> list[str]:
    """Returns lines such as `execution.accumulation: 1 -> 4`."""
    lines = []
    for name in sorted({*before, *after} - set(CHANGING)):
        old, new = before.get(name), after.get(name)
        where = f"{path}.{name}" if path else name
        if isinstance(old, dict) and isinstance(new, dict):
            lines += _changes(old, new, where)
        elif old != new:
            lines.append(f"{where}: {old} -> {new}")
    return lines
