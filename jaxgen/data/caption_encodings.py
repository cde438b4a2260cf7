"""A folder of captions as a frozen encoder reads them, made once for many runs.

It has the states of each caption's tokens one after another (`states.npy`), where each begins
(`starts.npy`), the captions by hashes of their tokens (`keys.npy`), and `encodings.json`: the
codec, the encoder and how the states are stored.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.errors import DataError
from jaxgen.files import write_atomically
from jaxgen.json_values import read_json

MANIFEST, ARRAYS = "encodings.json", ("keys.npy", "starts.npy", "states.npy")
SHAPE = {
    "codec": str, "encoder": {"name": str, "fingerprint": str, "parameters": str}, "width": int,
    "dtype": str, "masks_padding": bool, "length": int,
}  # fmt: skip
DTYPES = ("float32", "float16")
FIX = "make it with `jaxgen prepare --captions` from this run's configuration"


@dataclasses.dataclass(frozen=True)
class CaptionEncodings:
    """The states of a folder that `write_encodings` wrote.

    Attributes:
      folder: where they are.
    """

    folder: str

    @property
    def pattern(self) -> str:
        """The folder, by which a run records its files with its data."""
        return self.folder

    def files(self) -> tuple[str, ...]:
        """Returns the files."""
        self._arrays  # noqa: B018 (It raises where there are none.)
        return tuple(str(Path(self.folder) / name) for name in (*ARRAYS, MANIFEST))

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        """Returns what is written of the codec, the encoder and the states.

        Raises:
          DataError: if it is not there, or damaged.
        """
        try:
            found = read_json(Path(self.folder) / MANIFEST, SHAPE, FIX, DataError)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(
                f"image_text_pairs.encodings={self.folder!r} has no {MANIFEST}; {FIX}."
            ) from error
        if found["dtype"] not in DTYPES or found["width"] < 1:
            raise DataError(
                f"{self.folder}/{MANIFEST} has the type {found['dtype']!r:.40} and the width "
                f"{found['width']}, and states are of {', '.join(DTYPES)}; {FIX}."
            )
        return found

    def shapes(self, length: int) -> dict[str, tuple[tuple[int, int], np.dtype]]:
        """Returns the shapes and types of a row of `rows`, by name."""
        kind, width = np.dtype(self.manifest["dtype"]), self.manifest["width"]
        places = self._empty_places(length)
        return {"states": ((length, width), kind), "empty_states": ((places, width), kind)}

    def rows(self, tokens: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the states of captions, and beside each those of an empty caption.

        Args:
          tokens: [captions, length] int32, padded.
          lengths: [captions].

        Raises:
          DataError: if there are none of a caption, or they are of another length of rows.
        """
        _, starts, states = self._arrays
        length = tokens.shape[1]
        shapes = self.shapes(length)
        found = np.zeros((len(tokens), *shapes["states"][0]), shapes["states"][1])
        for row, (ids, count) in enumerate(zip(tokens, lengths, strict=True)):
            place = self._place(ids[:count])
            if place is None:
                raise DataError(
                    f"image_text_pairs.encodings={self.folder!r} lacks a caption of {count} "
                    f"tokens: it was made of other captions, or of rows cut elsewhere; {FIX}."
                )
            one = states[starts[place] : starts[place + 1]]
            found[row, : len(one)] = one
        places = self._empty_places(length)
        # The empty caption's key is the first; see `write_encodings`.
        empty = np.broadcast_to(states[:places], (len(tokens), places, states.shape[1]))
        return {"states": found, "empty_states": np.ascontiguousarray(empty)}

    def check(self, codec: Codec, length: int) -> None:
        """Raises DataError if the states are of other tokens, or of rows of another length."""
        made = self.manifest
        if made["codec"] != codec.digest:
            raise DataError(
                f"image_text_pairs.encodings={self.folder!r} is of another codec's tokens, "
                f"{made['codec']!r}, and the data's are {codec.digest!r}; {FIX}."
            )
        if not made["masks_padding"] and made["length"] != length:
            raise DataError(
                f"image_text_pairs.encodings={self.folder!r} is of rows of {made['length']} tokens "
                f"whose padding is read too, and train.length={length}; {FIX}."
            )
        self._arrays  # noqa: B018 (It raises where they are damaged.)

    def _empty_places(self, length: int) -> int:
        return min(2, length) if self.manifest["masks_padding"] else length

    def _place(self, ids: np.ndarray) -> int | None:
        key, keys = caption_key(ids), self._arrays[0]
        place = 1 + int(np.searchsorted(keys[1:], key))
        return place if place < len(keys) and keys[place] == key else None

    @functools.cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        width, kind = self.manifest["width"], np.dtype(self.manifest["dtype"])
        try:
            keys, starts, states = (
                np.load(Path(self.folder) / name, mmap_mode="r") for name in ARRAYS
            )
            if (keys.dtype, starts.dtype, states.dtype) != (np.uint64, np.int64, kind):
                raise ValueError("its arrays are of other types")
            if states.shape != (int(starts[-1]), width) or len(starts) != len(keys) + 1:
                raise ValueError("its arrays are of other lengths")
            if starts[0] != 0 or (np.diff(starts) <= 0).any():
                raise ValueError("its captions are not one after another")
        except (OSError, ValueError, IndexError, EOFError) as error:
            raise DataError(
                f"image_text_pairs.encodings={self.folder!r} cannot be read ({error}); {FIX}."
            ) from error
        return np.asarray(keys), np.asarray(starts), states

    def __getstate__(self) -> dict[str, str]:
        return {"folder": self.folder}


def caption_key(ids: np.ndarray) -> np.uint64:
    """Returns a hash of a caption's tokens, from its begin token to its end token."""
    digest = hashlib.blake2b(np.asarray(ids).astype("<i4").tobytes(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def write_encodings(
    folder: Path,
    captions: Mapping[int, int],
    found: Iterable[tuple[int, np.ndarray]],
    manifest: Mapping[str, Any],
) -> None:
    """Writes states as they are made; the manifest is written last, so that a part is no whole.

    Args:
      folder: to create.
      captions: of each caption's key how many states it has, the empty caption's first.
      found: keys with their states, in any order.
      manifest: see `SHAPE`.

    Raises:
      DataError: if a state is no finite number, or the folder cannot be written.
    """
    empty, *others = captions
    order = [empty, *sorted(others)]
    starts = np.concatenate([[0], np.cumsum([captions[key] for key in order])]).astype(np.int64)
    begins = dict(zip(order, starts[:-1].tolist(), strict=True))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        np.save(folder / "keys.npy", np.array(order, np.uint64))
        np.save(folder / "starts.npy", starts)
        kind, shape = np.dtype(manifest["dtype"]), (int(starts[-1]), manifest["width"])
        states = np.lib.format.open_memmap(folder / "states.npy", "w+", kind, shape)
        for key, rows in found:
            rows = rows.astype(kind)
            if not np.isfinite(rows).all():
                raise DataError(
                    f"the encoder gives states that are not finite numbers of {kind}: it diverged, "
                    "or its numbers are too large for the type; give --dtype=float32."
                )
            states[begins[key] : begins[key] + len(rows)] = rows
        states.flush()
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror}.") from error
    write_atomically(folder / MANIFEST, json.dumps(dict(manifest), indent=1) + "\n")
