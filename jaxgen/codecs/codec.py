"""The protocol of codecs, which turn text into token ids and back.

Any frozen dataclass with these methods can be the codec of a task; `ByteCodec` is a short example.
`digest` tells codecs apart, and `keep_in` stores one beside the run that uses it. What a codec may
have besides is in `codecs.joint`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from jaxgen.errors import DataError


@runtime_checkable
class Codec(Protocol):
    """A frozen configuration object that is also the tokenizer.

    Attributes:
      vocab_size: ids lie in [0, vocab_size).
      pad_id: the id that fills rows.
      begin_id: the id before the first token of a text.
      end_id: the id that ends a document or an answer.
      digest: a text that is equal for equal tokenizers; kept in the run.
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
        """Returns the ids that text can become, [plain] int32."""
        ...

    def special_id(self, name: str) -> int:
        """Returns the id of a control token.

        Raises:
          DataError: if the tokenizer has none of this name.
        """
        ...

    def encode(self, text: str, *, parse_special: bool = False) -> np.ndarray:
        """Returns the ids [length] int32 of a text, without begin and end.

        The name of a control token is text like any other, unless `parse_special`.
        """
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encodes many texts, on all cores where that helps."""
        ...

    def decode(self, ids: Sequence[int] | np.ndarray, *, keep_special: bool = False) -> str:
        """Returns the text of ids, with control tokens left out or as names, and as valid UTF-8."""
        ...

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Returns each token for a person to read, spaces and bytes made visible."""
        ...

    def keep_in(self, folder: pathlib.Path) -> None:
        """Stores the codec in a run's folder, or checks the one that is there.

        Raises:
          DataError: if the folder holds another tokenizer.
        """
        ...


def check_characters(text: str) -> str:
    """Returns the text itself.

    Raises:
      DataError: if it has half of a surrogate pair, as broken JSON escapes make them.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"a text has half of a surrogate pair, {text[error.start]!a}, at character "
            f"{error.start}, which no UTF-8 text may have; mend the text where it was written, or "
            "leave it out."
        ) from error
    return text
