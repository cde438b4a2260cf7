"""Items, the units of a preparation's work, and the files that record their progress.

A file gets its name when it is whole, so an item is done or it is not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from jaxgen.errors import DataError

if TYPE_CHECKING:  # The search for duplicates uses this file and keeps its memory small.
    from jaxgen.data.sources import Extent
    from jaxgen.preparation.config import FilesSource, Preparation


SMALLEST_PART = 2**20
"""Bytes of a file below which it is not divided."""


@dataclasses.dataclass(frozen=True)
class Item:
    """A group of whole files, or a part of one.

    Attributes:
      number: the place in the corpus's order.
      source: the number of its source.
      files: their names.
      extent: the part of the only file; None: all of it.
    """

    number: int
    source: int
    files: tuple[str, ...]
    extent: Extent | None = None

    @property
    def digested(self) -> tuple[str, ...]:
        """Returns the files whose digest is this item's to take: each is of one item."""
        return () if self.extent is not None and self.extent.start else self.files

    def path(self, folder: Path, name: str) -> Path:
        """Returns the path of one of the item's results."""
        return folder / f"{self.number:05}.{name}"


@dataclasses.dataclass(frozen=True)
class ItemJob:
    """The arguments of a worker: the item, the settings, and the folders of results."""

    preparation: Preparation
    item: Item
    work: Path
    output: Path
    index_file: Path | None = None


def make_items(preparation: Preparation) -> list[Item]:
    """Returns groups of files, and parts of larger ones, of about `item_bytes`, in their order."""
    units = [
        (number, files, extent)
        for number, source in enumerate(preparation.sources)
        for files, extent in _units(source, preparation.item_bytes)
    ]
    return [Item(place, *unit) for place, unit in enumerate(units)]


def _units(source: FilesSource, at_most: int) -> Iterator[tuple[tuple[str, ...], Extent | None]]:
    divide = getattr(source, "extents", None)
    group, size = [], 0
    for file in source.files():
        size_of_file = source.size_of(file)
        if group and size + size_of_file > at_most:
            yield tuple(group), None
            group, size = [], 0
        part = max(at_most, SMALLEST_PART)
        extents = divide(file, part) if divide is not None and size_of_file > part else ()
        if len(extents) > 1:
            yield from (((file,), extent) for extent in extents)
        else:
            group.append(file)
            size += size_of_file
    if group:
        yield tuple(group), None


def save(path: Path, data: bytes) -> None:
    """Writes a whole file, or leaves what was there."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def save_json(path: Path, value: Any) -> None:
    """Writes a value as JSON, as `save` does."""
    save(path, (json.dumps(value, indent=1) + "\n").encode())


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array, as `save` does."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    save(path, buffer.getvalue())


@contextlib.contextmanager
def writer_of(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that gets its name when it is left without an error."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        yield file
    os.replace(temporary, path)


@contextlib.contextmanager
def text_writer(path: Path) -> Iterator[io.TextIOWrapper]:
    """Opens a compressed file that gets its name when it is left without an error."""
    import zstandard

    with (
        writer_of(path) as file,
        zstandard.ZstdCompressor(level=1).stream_writer(file) as stream,
        io.TextIOWrapper(stream, encoding="utf-8", newline="\n") as writer,
    ):
        yield writer


def write_text(writer: io.TextIOWrapper, text: str) -> None:
    """Adds a text, as a line of JSON."""
    writer.write(json.dumps(text, ensure_ascii=False) + "\n")


def read_texts(path: Path) -> Iterator[str]:
    """Yields the texts that were written."""
    import zstandard

    with open(path, "rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8", newline="\n"):
            yield json.loads(line)


@contextlib.contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Locks a folder for one process.

    Raises:
      DataError: if another process works in it.
    """
    with open(folder / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"another process is preparing a corpus in {folder.parent}; wait for it, or give "
                "another --output."
            ) from error
        yield
