"""Features: the fields of a record that become tokens, and which of those are in the loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.data.padding import pad_prompt
from jaxgen.data.parts import Example, Part, encode_parts, parts_of
from jaxgen.data.protocols import Denoising, Record
from jaxgen.domains import NonNegativeInt, check_domains
from jaxgen.errors import DataError


@dataclasses.dataclass(frozen=True)
class Text:
    """Documents, which may be split over rows.

    Attributes:
      field: the record's field that holds the text.
      denoising: the corruption that the model undoes; None predicts each token from those before
        it.
    """

    field: str = "text"
    denoising: Denoising | None = None

    is_split = True
    has_answers = False

    def identity(self) -> tuple[object, ...]:
        """Returns all that the tokens depend on; see `Features.identity`."""
        return (self.field,)

    def encode(
        self, records: Iterable[Record], codec: Codec, has_source: bool = False
    ) -> list[Example]:
        """Returns the tokens of records, all of which are in the loss.

        Raises:
          DataError: if a record lacks the field, or it is empty.
        """
        del has_source  # A denoising says what an encoder reads.
        records = list(records)
        divided = [parts_of(record) for record in records]
        if any(parts is not None for parts in divided):
            _check_text(divided)
            return [
                encode_parts(parts or [Part(field(record, self.field))], codec)
                for parts, record in zip(divided, records, strict=True)
            ]
        texts = [field(record, self.field) for record in records]
        if "" in texts:
            record = records[texts.index("")]
            raise DataError(
                f"the field {self.field!r} is empty in the record {shown(record)}, which leaves "
                'nothing to learn. Leave such records out; on_error="skip" does, and counts them.'
            )
        return [Example(ids.astype(np.int32)) for ids in codec.encode_batch(texts)]


def _check_text(divided: list[list[Part] | None]) -> None:
    """Raises DataError if there are media among the parts of documents."""
    if any(part.media is not None for parts in divided for part in parts or ()):
        raise DataError(
            "documents may be split over rows, which pictures, sounds and clips may not: give the "
            "task the features prompt_answer."
        )


@dataclasses.dataclass(frozen=True)
class PromptAnswer:
    """Prompts with correct answers: an example is never split, and the answers are scored.

    A record has a prompt and an answer, or "turns": a list of [prompt, answer], one after another.

    Attributes:
      prompt: the record's field that holds the prompt.
      answer: the record's field that holds the answer.
      loss_on_prompt: whether the prompt's tokens are in the loss too.
      denoising: what the model undoes in examples, such as masked codes, in place of answering;
        None predicts each token from those before it.
      padded_prompt: tokens that a prompt is filled up to, see `data.padding`; 0 leaves it as it is.
    """

    prompt: str = "prompt"
    answer: str = "answer"
    loss_on_prompt: bool = False
    padded_prompt: NonNegativeInt = 0
    denoising: Denoising | None = None

    def __post_init__(self):
        check_domains(self, "prompt_answer")

    is_split = False

    @property
    def has_answers(self) -> bool:
        """Returns whether answers are predicted token by token."""
        return self.denoising is None

    def turns(self, record: Record) -> list[tuple[str, str]]:
        """Returns the prompts and answers of a record, in order."""
        if "turns" in record:
            try:
                return [(str(prompt), str(answer)) for prompt, answer in record["turns"]]
            except (TypeError, ValueError) as error:
                raise DataError(
                    "'turns' must be a list of [prompt, answer], and a record has "
                    f"{record['turns']!a:.60}."
                ) from error
        return [(field(record, self.prompt), field(record, self.answer))]

    def parts(self, record: Record) -> list[Part]:
        """Returns the prompts and answers as parts."""
        return [
            part
            for prompt, answer in self.turns(record)
            for part in (Part(prompt, self.loss_on_prompt), Part(answer, is_answer=True))
        ]

    def identity(self) -> tuple[object, ...]:
        """Returns all that the tokens depend on."""
        return (dataclasses.replace(self, denoising=None),)

    def encode(
        self, records: Iterable[Record], codec: Codec, has_source: bool = False
    ) -> list[Example]:
        """Returns the tokens of records.

        Raises:
          DataError: if a record lacks a field.
        """
        examples = [encode_parts(self._parts_of(r), codec, has_source) for r in records]
        if not self.padded_prompt:
            return examples
        return [pad_prompt(one, self.padded_prompt, codec) for one in examples]

    def _parts_of(self, record: Record) -> list[Part]:
        parts = parts_of(record)
        if parts is None:
            return self.parts(record)
        return [part._replace(in_loss=part.in_loss or self.loss_on_prompt) for part in parts]


def field(record: Record, name: str) -> str:
    """Returns a field of a record as text.

    Raises:
      DataError: if the record lacks it, or it is not text.
    """
    value: Any = record.get(name)
    if isinstance(value, str):
        return value
    wrong = "is null" if value is None else f"is {type(value).__name__}, not text"
    wrong = wrong if name in record else "is missing"
    raise DataError(
        f"the field {name!r} {wrong} in the record {shown(record)}; name another field in the "
        "task's features (text.field, prompt_answer.prompt, prompt_answer.answer), or leave such "
        "records out."
    )


def shown(record: Record) -> dict[str, str]:
    """Returns the beginning of every field, for messages."""
    return {str(key)[:40]: ascii(item)[:40] for key, item in list(record.items())[:20]}
