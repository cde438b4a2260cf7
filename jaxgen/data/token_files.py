"""Token files: documents' ids end to end in one flat file, and where each begins in another."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.codecs.media import Media
from jaxgen.errors import DataError

KINDS = ("tokens", "flags", "offsets", "media", "media_offsets")
BUFFER = 2**20
"""Tokens that are collected before writing."""


class TokenFile(NamedTuple):
    """Memory-mapped documents.

    Attributes:
      tokens: [tokens] uint16 or uint32.
      offsets: [documents + 1] int64, where each begins.
      flags: [tokens] uint8, or None where no document has any.
      media: bytes of the documents' arrays, see `write_arrays`, or None where there are none.
      media_offsets: [documents + 1] int64, where each document's begin.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    flags: np.ndarray | None
    media: np.ndarray | None = None
    media_offsets: np.ndarray | None = None

    def media_of(self, document: int) -> tuple[Media, ...]:
        """Returns the arrays of a document's media."""
        if self.media is None or self.media_offsets is None:
            return ()
        begin, end = self.media_offsets[document : document + 2]
        return read_arrays(self.media[begin:end].tobytes())


class TokenWriter:
    """Writes documents one after another; a context manager.

    The files get their names when it is left without an error: `<name>.tokens`, little-endian
    uint16 or uint32 by the size of the vocabulary, `<name>.offsets`, int64, `<name>.flags` if any
    document has flags, and `<name>.media` and `<name>.media_offsets` if any has arrays.
    """

    def __init__(self, folder: Path, name: str, vocab_size: int):
        self._dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
        self._paths = {kind: folder / f"{name}.{kind}" for kind in KINDS}
        self._files: dict[str, Any] = {}
        self._held: list[tuple[np.ndarray, np.ndarray | None]] = []
        self._num_held = 0
        self._has_flags = False
        self.offsets, self._media_offsets = [0], [0]

    def __enter__(self) -> TokenWriter:
        for kind in ("tokens", "flags", "media"):
            self._files[kind] = open(self._temporary(kind), "wb")
        return self

    def add(
        self, ids: np.ndarray, flags: np.ndarray | None = None, media: Sequence[Media] = ()
    ) -> None:
        """Adds a document of [n] ids, its [n] flags and the arrays of its media."""
        content = write_arrays(media)
        self._files["media"].write(content)
        self._media_offsets.append(self._media_offsets[-1] + len(content))
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
            for kind in KINDS:
                self._temporary(kind).unlink(missing_ok=True)
            return
        np.array(self.offsets, "<i8").tofile(self._temporary("offsets"))
        np.array(self._media_offsets, "<i8").tofile(self._temporary("media_offsets"))
        has_media = self._media_offsets[-1] > 0
        is_kept = {"flags": self._has_flags, "media": has_media, "media_offsets": has_media}
        for kind in KINDS:
            if is_kept.get(kind, True):
                os.replace(self._temporary(kind), self._paths[kind])
            else:
                self._temporary(kind).unlink()

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
    paths = {kind: folder / f"{name}.{kind}" for kind in KINDS}
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
    tokens = _mapped(paths["tokens"], widths[size], count)
    if not paths["media_offsets"].exists():
        return TokenFile(tokens, offsets, flags)
    media_offsets = np.fromfile(paths["media_offsets"], "<i8")
    size = paths["media"].stat().st_size if paths["media"].exists() else 0
    if len(media_offsets) != len(offsets) or media_offsets[-1] != size:
        raise DataError(f"{paths['media']} has {size} bytes, which is not what it had: prepare it "
                        "again.")  # fmt: skip
    return TokenFile(tokens, offsets, flags, _mapped(paths["media"], "u1", size), media_offsets)


def write_arrays(media: Sequence[Media]) -> bytes:
    """Returns the arrays of media as bytes: of each a line with its modality, and a .npy file."""
    content = io.BytesIO()
    for one in media:
        content.write(f"{one.modality}\n".encode())
        np.save(content, one.values, allow_pickle=False)
    return content.getvalue()


def read_arrays(content: bytes) -> tuple[Media, ...]:
    """Returns the media of `write_arrays`; their rates are not kept."""
    file, media = io.BytesIO(content), []
    while line := file.readline():
        modality: Any = line.decode().strip()
        media.append(Media(modality, np.load(file, allow_pickle=False)))
    return tuple(media)


def _mapped(path: Path, dtype: str, count: int) -> np.ndarray:
    if count == 0:
        return np.zeros(0, dtype)
    # A plain array over the map: slices of a memmap object cost several times as much.
    return np.asarray(np.memmap(path, np.dtype(dtype), "r", shape=(count,)))
