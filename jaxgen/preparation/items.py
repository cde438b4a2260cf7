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
    from jaxgen.preparation.config import Preparation


@dataclasses.dataclass(frozen=True)
class Item:
    """A group of whole files.

    Attributes:
      number: the place in the corpus's order.
      source: the number of its source.
      files: their names.
    """

    number: int
    source: int
    files: tuple[str, ...]

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
    """Returns groups of whole files of about `item_bytes`, in the order of sources and names."""
    items: list[Item] = []
    for number, source in enumerate(preparation.sources):
        group, size = [], 0
        for file in source.files():
            bytes_of_file = source.size_of(file)
            if group and size + bytes_of_file > preparation.item_bytes:
                items.append(Item(len(items), number, tuple(group)))
                group, size = [], 0
            group.append(file)
            size += bytes_of_file
        if group:
            items.append(Item(len(items), number, tuple(group)))
    return items


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
