"""Parts, the pieces of text of a record in order, and examples, the same as tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.errors import DataError

IN_LOSS, ANSWER = 1, 2
"""The bits of a token's flags."""


class Part(NamedTuple):
    """A piece of the text that a model reads or writes.

    Attributes:
      text: the piece.
      in_loss: whether its tokens are targets of the loss.
      is_answer: whether it answers a prompt; the encoder of an encoder-decoder reads all parts
        before the first answer.
      is_control: whether names of control tokens in it are those tokens; otherwise they are text.
    """

    text: str
    in_loss: bool = True
    is_answer: bool = False
    is_control: bool = False


@dataclasses.dataclass(frozen=True)
class Example:
    """A record as tokens.

    Attributes:
      ids: [tokens] int32, without begin and end tokens.
      flags: [tokens] uint8, IN_LOSS and ANSWER; None: all are in the loss, none answers.
    """

    ids: np.ndarray
    flags: np.ndarray | None = None

    @property
    def num_targets(self) -> int:
        """Returns the number of tokens to predict: all, and the end token."""
        return len(self.ids) + 1


def encode_parts(parts: Sequence[Part], codec: Codec) -> Example:
    """Returns the tokens of the parts, each encoded by itself.

    Raises:
      DataError: if there is no text at all.
    """
    ids = [codec.encode(part.text, parse_special=part.is_control) for part in parts]
    if not sum(len(one) for one in ids):
        raise DataError("a record has no text: every part of it is empty.")
    flags = [
        np.full(len(one), IN_LOSS * part.in_loss + ANSWER * part.is_answer, np.uint8)
        for one, part in zip(ids, parts, strict=True)
    ]
    return Example(np.concatenate(ids).astype(np.int32), np.concatenate(flags))


def parts_of(record: dict[str, Any]) -> list[Part] | None:
    """Returns the parts that a preprocessor has left in a record; None if it has none."""
    parts = record.get("parts")
    return None if parts is None else [Part(*part) for part in parts]
