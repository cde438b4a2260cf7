"""What a record says, in order: pieces of text that are learnt or not; and the same as tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.errors import DataError

LEARNT, ANSWER = 1, 2
"""Bits of a token's flags."""


class Part(NamedTuple):
    """A piece of what a model reads or writes.

    Attributes:
      text: the piece.
      is_learnt: whether its tokens are targets of the loss.
      is_answer: whether it is what a prompt asks for; what comes before the first answer is the
        source of an encoder-decoder.
      is_control: whether names of control tokens in it are those tokens; otherwise they are text.
    """

    text: str
    is_learnt: bool = True
    is_answer: bool = False
    is_control: bool = False


@dataclasses.dataclass(frozen=True)
class Example:
    """A record as tokens.

    Attributes:
      ids: [tokens] int32, without begin and end tokens.
      flags: [tokens] uint8, LEARNT and ANSWER; None where every token is learnt and none answers.
    """

    ids: np.ndarray
    flags: np.ndarray | None = None

    @property
    def num_targets(self) -> int:
        """Tokens to predict: all, and the end."""
        return len(self.ids) + 1


def encode_parts(parts: Sequence[Part], codec: Codec) -> Example:
    """The tokens of the parts, each encoded by itself.

    Raises:
      DataError: if there is no text at all.
    """
    ids = [codec.encode(part.text, parse_special=part.is_control) for part in parts]
    if not sum(len(one) for one in ids):
        raise DataError("a record has no text at all: every part of it is empty.")
    flags = [
        np.full(len(one), LEARNT * part.is_learnt + ANSWER * part.is_answer, np.uint8)
        for one, part in zip(ids, parts, strict=True)
    ]
    return Example(np.concatenate(ids).astype(np.int32), np.concatenate(flags))


def parts_of(record: dict[str, Any]) -> list[Part] | None:
    """The parts that a preprocessor has left in a record, if one has."""
    parts = record.get("parts")
    return None if parts is None else [Part(*part) for part in parts]
