"""Which fields of a record become tokens, and which of those are learnt."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.data.denoising import AnyObjective, NextToken
from jaxgen.data.parts import Example, Part, encode_parts, parts_of
from jaxgen.data.sources import Record
from jaxgen.errors import DataError


@dataclasses.dataclass(frozen=True)
class Text:
    """Documents, which may be split over rows.

    Attributes:
      field: the record's field that holds the text.
      objective: what is to be predicted of it.
    """

    field: str = "text"
    objective: AnyObjective = NextToken()

    def identity(self) -> tuple[object, ...]:
        """What the tokens depend on; the objective works on them."""
        return (self.field,)

    def encode(self, records: Iterable[Record], codec: Codec) -> list[Example]:
        """Records as tokens, all of which are learnt.

        Raises:
          DataError: if a record lacks the field.
        """
        records = list(records)
        divided = [parts_of(record) for record in records]
        if any(parts is not None for parts in divided):
            return [
                encode_parts(parts or [Part(field(record, self.field))], codec)
                for parts, record in zip(divided, records, strict=True)
            ]
        texts = [field(record, self.field) for record in records]
        return [Example(ids.astype(np.int32)) for ids in codec.encode_batch(texts)]


@dataclasses.dataclass(frozen=True)
class PromptAnswer:
    """Prompts with right answers: an example is never split, and the answers are scored.

    A record has a prompt and an answer, or "turns": a list of [prompt, answer], one after another.

    Attributes:
      prompt: the record's field that holds the prompt.
      answer: the record's field that holds the answer.
      loss_on_prompt: whether the prompt's tokens are learnt too.
    """

    prompt: str = "prompt"
    answer: str = "answer"
    loss_on_prompt: bool = False

    def turns(self, record: Record) -> list[tuple[str, str]]:
        """The prompts and answers of a record, in order."""
        if "turns" in record:
            return [(str(prompt), str(answer)) for prompt, answer in record["turns"]]
        return [(field(record, self.prompt), field(record, self.answer))]

    def parts(self, record: Record) -> list[Part]:
        """The same as parts."""
        return [
            part
            for prompt, answer in self.turns(record)
            for part in (Part(prompt, self.loss_on_prompt), Part(answer, is_answer=True))
        ]

    def identity(self) -> tuple[object, ...]:
        """What the tokens depend on."""
        return (self,)

    def encode(self, records: Iterable[Record], codec: Codec) -> list[Example]:
        """Records as tokens.

        Raises:
          DataError: if a record lacks a field.
        """
        return [encode_parts(parts_of(r) or self.parts(r), codec) for r in records]


def field(record: Record, name: str) -> str:
    """A field of a record as text.

    Raises:
      DataError: if the record lacks it, or it is not text.
    """
    value: Any = record.get(name)
    if isinstance(value, str):
        return value
    wrong = "is missing" if value is None else f"is {type(value).__name__}, not text"
    shown = {key: str(item)[:40] for key, item in record.items()}
    raise DataError(
        f"the field {name!r} {wrong} in the record {shown}; name another field in the task's "
        "features (text.field, prompt_answer.prompt, prompt_answer.answer)."
    )
