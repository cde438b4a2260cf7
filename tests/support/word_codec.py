"""A codec whose tokens are words, so that rows can be read by a person."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

BEGIN, END, PAD = "<begin>", "<end>", "<pad>"


class WordCodec:
    """Learns words as it meets them; a name in angle brackets is a control token where asked."""

    def __init__(self):
        self.words = [PAD, BEGIN, END]
        self.digest, self.vocab_size = "words", 1000
        self.pad_id, self.begin_id, self.end_id = range(3)
        self.plain_ids = np.arange(500, 600)

    def special_id(self, name: str) -> int:
        return self._id(name)

    def encode(self, text: str, *, parse_special: bool = False) -> np.ndarray:
        words = re.findall(r"<[^>]+>|[^\s<]+|<", text) if parse_special else text.split()
        marked = [w if parse_special or not w.startswith("<") else f"plain:{w}" for w in words]
        return np.array([self._id(word) for word in marked], np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self.encode(text) for text in texts]

    def decode(self, ids, *, keep_special: bool = False) -> str:
        return " ".join(self.words[i] if i < len(self.words) else f"#{i}" for i in ids)

    def pieces(self, ids) -> list[str]:
        return [self.words[i] for i in ids]

    def keep_in(self, folder) -> None:
        pass

    def _id(self, word: str) -> int:
        if word not in self.words:
            self.words.append(word)
        return self.words.index(word)
