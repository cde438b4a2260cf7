"""Small files that are written whole, and JSON lines that a crash may have cut short."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from typing import Any

from jaxgen.errors import CheckpointError


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {path}: {error.strerror}.") from error


def append_rows(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
    """Appends JSON lines; a line that a crash cut short before is closed first."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    try:
        with open(path, "a+b") as handle:
            handle.seek(0, os.SEEK_END)
            if handle.tell() > 0:
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    text = "\n" + text
            handle.write(text.encode())
    except OSError as error:
        raise CheckpointError(f"cannot append to {path}: {error.strerror}.") from error


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns all whole rows of a JSON-lines file, without lines that a crash cut short."""
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
    return rows
