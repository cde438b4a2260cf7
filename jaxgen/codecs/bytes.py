"""Text as its UTF-8 bytes: no training, no unknown text, 256 ids and three special ones."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from jaxgen.codecs.special import BEGIN, END, PAD, SpecialTokens, find_special


@dataclasses.dataclass(frozen=True)
class ByteCodec:
    """Ids 0 to 255 are bytes; 256 pads, 257 begins, 258 ends.

    Attributes:
      special: control tokens from 259 on; None: there are none.
    """

    special: SpecialTokens | None = None

    @functools.cached_property
    def _special_ids(self) -> dict[str, int]:
        names = () if self.special is None else self.special.names
        return {name: number for number, name in enumerate((PAD, BEGIN, END, *names), start=256)}

    @property
    def vocab_size(self) -> int:
        """Returns the number of bytes and special tokens."""
        return 256 + len(self._special_ids)

    @property
    def pad_id(self) -> int:
        return 256

    @property
    def begin_id(self) -> int:
        return 257

    @property
    def end_id(self) -> int:
        return 258

    @property
    def digest(self) -> str:
        """Returns the name of the byte codec and of its control tokens."""
        return "bytes" if self.special is None else f"bytes+{hash_of(self.special.names)}"

    @property
    def plain_ids(self) -> np.ndarray:
        """Returns the ids of the bytes."""
        return np.arange(256, dtype=np.int32)

    def special_id(self, name: str) -> int:
        """Returns the id of a control token; DataError if there is none of this name."""
        return find_special(name, self._special_ids, "the byte codec")

    def encode(self, text: str, *, parse_special: bool = False) -> np.ndarray:
        """Returns the ids [length] int32 of a text."""
        if not parse_special:
            return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int32)
        names = "|".join(re.escape(name) for name in self._special_ids)
        parts = [
            [self._special_ids[part]] if part in self._special_ids else self.encode(part)
            for part in re.split(f"({names})", text)
        ]
        return np.concatenate(parts).astype(np.int32)

    def num_bytes(self, ids: np.ndarray) -> int:
        """Returns how many of the ids are bytes."""
        return int(np.sum(np.asarray(ids) < 256))

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encodes each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int] | np.ndarray, *, keep_special: bool = False) -> str:
        """Returns the text of ids; see `Codec.decode`."""
        names = {number: name.encode() for name, number in self._special_ids.items()}
        kept = (
            bytes([i]) if 0 <= i < 256 else names.get(int(i), b"") if keep_special else b""
            for i in map(int, ids)
        )
        return b"".join(kept).decode("utf-8", "replace")

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Returns ASCII as it is, spaces as `␣`, other bytes as `\\xff`, control tokens by name."""
        names = {number: name for name, number in self._special_ids.items()}
        return [names.get(i, f"#{i}") if i > 255 else visible(bytes([i])) for i in map(int, ids)]

    def keep_in(self, folder: pathlib.Path) -> None:
        """Stores nothing, as bytes need no file."""


def visible(piece: bytes) -> str:
    """Returns a token's bytes as a person can read them."""
    try:
        text = piece.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in piece)
    shown = {" ": "␣", "\n": "⏎", "\t": "⇥"}
    return "".join(
        shown.get(character) or (character if character.isprintable() else ascii(character)[1:-1])
        for character in text
    )


def hash_of(names: tuple[str, ...]) -> str:
    """Returns 8 hexadecimal digits of the names."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:8]
