"""Small files that are written whole, and JSON lines that a crash may have cut short."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import re
from typing import Any

from jaxgen.errors import CheckpointError, ConfigError, DiskError
from jaxgen.json_values import check_shape, parse_json

IN_STORE = re.compile(r"[a-z][a-z0-9]+:/")
"""How the address of an object begins, such as gs://bucket/a; a Path leaves out a slash."""
BLOCK = 2**16
PAGE = 4096
TEMPORARY = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}
"""What a disk says that may be cured without changing a command."""


def cannot_write(what: str, error: OSError) -> CheckpointError:
    """Returns the error of something that cannot be written: a DiskError if that may pass."""
    kind = DiskError if error.errno in TEMPORARY else CheckpointError
    return kind(f"{what}: {error.strerror}.")


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # Such as a folder that is a file.
            temporary.unlink(missing_ok=True)
        raise cannot_write(f"cannot write {path}", error) from error


def check_local(flag: str, path: str | os.PathLike) -> None:
    """Raises ConfigError for a path in an object store, of which a local folder would be made."""
    text = os.fspath(path)
    if IN_STORE.match(text):
        raise ConfigError(
            f"{flag}={text} is in an object store, and jaxgen writes files, and reads runs, in "
            "folders of this machine. Name a folder and copy it there or from there; of a run that "
            "trains, execution.mirror keeps a copy in a store."
        )


def check_folder_of(path: str | os.PathLike) -> None:
    """Raises ConfigError for a file to be written that has no folder, before it is made."""
    if not pathlib.Path(path).absolute().parent.is_dir():
        raise ConfigError(f"--output={path} is in no folder that exists; make it.")


def append_rows(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
    """Appends JSON lines in one write, all of them or none.

    A reader beside it finds whole lines, where rows are shorter than a page and about as long as
    the one before. A row that a crash cut short before is removed, see `close_cut_row`.
    """
    lines = [json.dumps(row).encode() for row in rows]
    close_cut_row(path)
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(file).st_size
            data = _within_pages(lines, size)
            if os.write(file, data) < len(data):  # The disk had room for a part.
                os.ftruncate(file, size)
                raise DiskError(f"cannot append to {path}: the disk is full.")
        finally:
            os.close(file)
    except OSError as error:
        raise cannot_write(f"cannot append to {path}", error) from error


def _within_pages(lines: list[bytes], size: int) -> bytes:
    """Returns lines to append to a file of so many bytes, with spaces where a page would end.

    What is written into one page appears at once, and what goes over its end in two steps. So a
    line ends with its page where the next one, if it is at most a quarter longer, would go over.
    """
    data = b""
    for line in lines:
        end = size + len(data) + len(line) + 1
        room = -end % PAGE
        spaces = room if room < 1.25 * len(line) + 64 else 0
        data += line + b" " * spaces + b"\n"
    return data


def close_cut_row(path: pathlib.Path) -> None:
    """Ends the last line of a file of rows: removes what a crash left of a row that is not whole.

    Raises:
      CheckpointError: if the file cannot be written.
    """
    try:
        with open(path, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start, tail = size, b""
            while start and b"\n" not in tail:
                begin = max(0, start - BLOCK)
                file.seek(begin)
                tail, start = file.read(start - begin) + tail, begin
            cut = tail.rpartition(b"\n")[2]
            if not cut:
                return
            if _row_of(cut) is None:
                file.truncate(size - len(cut))
            else:  # Whole, but for the end of its line.
                file.write(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(f"cannot append to {path}", error) from error


def read_rows(path: pathlib.Path, shape: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Returns all whole rows of a JSON-lines file, without lines that a crash cut short.

    Args:
      path: of the file; without it there are no rows.
      shape: what a row must be like, see `check_shape`.

    Raises:
      CheckpointError: if the file cannot be read, or a row is of another shape.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    rows = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        row = _row_of(line) if line else None
        if row is None:
            continue
        try:
            check_shape(row, shape or {})
        except ValueError as error:
            raise CheckpointError(f"{path}:{number}: {error}; mend or remove the line.") from error
        rows.append(row)
    return rows


def _row_of(line: bytes) -> dict[str, Any] | None:
    """Returns a line's object; None if it is none, as no part of an object is."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
