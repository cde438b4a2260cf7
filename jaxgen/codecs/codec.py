"""What turns text into token ids and back."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Codec(Protocol):
    """A frozen configuration object that is also the tokenizer.

    Attributes:
      vocab_size: ids lie in [0, vocab_size).
      pad_id: fills rows.
      begin_id: stands before a text that has nothing before it.
      end_id: ends a document or an answer.
      digest: equal for equal tokenizers; kept in the run.
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def pad_id(self) -> int: ...

    @property
    def begin_id(self) -> int: ...

    @property
    def end_id(self) -> int: ...

    @property
    def digest(self) -> str: ...

    def encode(self, text: str) -> np.ndarray:
        """Text to ids [length] int32, without special tokens."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of many texts, on all cores where that helps."""
        ...

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Ids to text; special tokens vanish and invalid UTF-8 is replaced."""
        ...

    def keep_in(self, folder: pathlib.Path) -> None:
        """Leaves in a run's folder what is needed to read its tokens; checks what is there.

        Raises:
          DataError: if the folder holds another tokenizer.
        """
        ...
