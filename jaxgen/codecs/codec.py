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

    @property
    def plain_ids(self) -> np.ndarray:
        """[plain] int32: the ids that text can become."""
        ...

    def special_id(self, name: str) -> int:
        """The id of a control token.

        Raises:
          DataError: if the tokenizer has none of this name.
        """
        ...

    def encode(self, text: str, *, parse_special: bool = False) -> np.ndarray:
        """Text to ids [length] int32, without begin and end.

        The name of a control token is text like any other, unless `parse_special`.
        """
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of many texts, on all cores where that helps."""
        ...

    def decode(self, ids: Sequence[int] | np.ndarray, *, keep_special: bool = False) -> str:
        """Ids to text; control tokens vanish, or are their names, and invalid UTF-8 is replaced."""
        ...

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """What each token shows to a person, spaces and bytes made visible."""
        ...

    def keep_in(self, folder: pathlib.Path) -> None:
        """Leaves in a run's folder what is needed to read its tokens; checks what is there.

        Raises:
          DataError: if the folder holds another tokenizer.
        """
        ...
