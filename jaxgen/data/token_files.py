"""Token files: documents' ids end to end in one flat file, and where each begins in another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.errors import DataError

BUFFER = 2**20
"""Tokens that are collected before writing."""


class TokenFile(NamedTuple):
    """Memory-mapped documents.

    Attributes:
      tokens: [tokens] uint16 or uint32.
      offsets: [documents + 1] int64, where each begins.
      flags: [tokens] uint8, or None where no document has any.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    flags: np.ndarray | None


class TokenWriter:
    """Writes documents one after another; a context manager.

    The files get their names when it is left without an error: `<name>.tokens`, little-endian
    uint16 or uint32 by the size of the vocabulary, `<name>.offsets`, int64, and `<name>.flags` if
    any document has flags.
    """

    def __init__(self, folder: Path, name: str, vocab_size: int):
        self._dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
        self._paths = {kind: folder / f"{name}.{kind}" for kind in ("tokens", "flags", "offsets")}
        self._files: dict[str, Any] = {}
        self._held: list[tuple[np.ndarray, np.ndarray | None]] = []
        self._num_held = 0
        self._has_flags = False
        self.offsets = [0]

    def __enter__(self) -> TokenWriter:
        for kind in ("tokens", "flags"):
            self._files[kind] = open(self._temporary(kind), "wb")
        return self

    def add(self, ids: np.ndarray, flags: np.ndarray | None = None) -> None:
        """Adds a document of [n] ids, and its [n] flags."""
        self._held.append((ids, flags))
        self.offsets.append(self.offsets[-1] + len(ids))
        self._num_held += len(ids)
        self._has_flags |= flags is not None
        if self._num_held >= BUFFER:
            self._write()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if error is None:
                self._write()
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        finally:
            for file in self._files.values():
                file.close()
        if error is not None:
            for kind in self._files:
                self._temporary(kind).unlink(missing_ok=True)
            return
        np.array(self.offsets, "<i8").tofile(self._temporary("offsets"))
        for kind in ("tokens", "offsets"):
            os.replace(self._temporary(kind), self._paths[kind])
        if self._has_flags:
            os.replace(self._temporary("flags"), self._paths["flags"])
        else:
            self._temporary("flags").unlink()

    def _temporary(self, kind: str) -> Path:
        return self._paths[kind].with_name(f".{self._paths[kind].name}.tmp")

    def _write(self) -> None:
        for ids, flags in self._held:
            self._files["tokens"].write(np.asarray(ids).astype(self._dtype).tobytes())
            flags = np.ones(len(ids), np.uint8) if flags is None else flags
            self._files["flags"].write(flags.tobytes())
        self._held.clear()
        self._num_held = 0


def read_token_file(folder: Path, name: str) -> TokenFile:
    """Opens the documents of a token file.

    Raises:
      DataError: if a file is missing, or their sizes do not belong together.
    """
    paths = {kind: folder / f"{name}.{kind}" for kind in ("tokens", "flags", "offsets")}
    try:
        offsets = np.fromfile(paths["offsets"], "<i8")
        size = paths["tokens"].stat().st_size
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error
    count = int(offsets[-1]) if len(offsets) else -1
    widths = {2 * count: "<u2", 4 * count: "<u4"}
    if count < 0 or size not in widths or (np.diff(offsets) < 0).any() or offsets[0] != 0:
        raise DataError(
            f"{paths['tokens']} has {size} bytes, and {paths['offsets']} has {count} tokens of "
            "2 or 4 bytes: one of them is cut off or belongs to another corpus."
        )
    flags = None
    if paths["flags"].exists():
        if paths["flags"].stat().st_size != count:
            raise DataError(f"{paths['flags']} does not have {count} bytes: it is cut off.")
        flags = _mapped(paths["flags"], "u1", count)
    return TokenFile(_mapped(paths["tokens"], widths[size], count), offsets, flags)


def _mapped(path: Path, dtype: str, count: int) -> np.ndarray:
    if count == 0:
        return np.zeros(0, dtype)
    # A plain array over the map: slices of a memmap object cost several times as much.
    return np.asarray(np.memmap(path, np.dtype(dtype), "r", shape=(count,)))
