"""Text as its UTF-8 bytes: no training, no unknown text, 256 ids and three special ones."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class ByteCodec:
    """Ids 0 to 255 are bytes; 256 pads, 257 begins, 258 ends."""

    @property
    def vocab_size(self) -> int:
        """Bytes and special tokens."""
        return 259

    @property
    def pad_id(self) -> int:
        """Fills rows."""
        return 256

    @property
    def begin_id(self) -> int:
        """Stands before a text that has nothing before it."""
        return 257

    @property
    def end_id(self) -> int:
        """Ends a document or an answer."""
        return 258

    @property
    def digest(self) -> str:
        """There is only one byte codec."""
        return "bytes"

    def encode(self, text: str) -> np.ndarray:
        """Text to ids [length] int32."""
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of each."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Ids to text; special tokens vanish and invalid UTF-8 is replaced."""
        kept = bytes(int(i) for i in ids if 0 <= i < 256)
        return kept.decode("utf-8", "replace")

    def keep_in(self, folder: pathlib.Path) -> None:
        """Bytes need nothing kept."""
