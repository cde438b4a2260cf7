"""A task: where its records come from, which tokens they become, what is learnt and scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from jaxgen.codecs.bpe import BPECodec
from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.embedded import StandardLibraryCode, StandardLibraryProse
from jaxgen.data.generated import Addition, AssociativeRecall, Copying, LookupChain
from jaxgen.data.hashing import permutation
from jaxgen.data.sources import InMemory, Jsonl, Record, Records, Split, TextFiles
from jaxgen.data.tables import ArrayRecord, Parquet
from jaxgen.errors import DataError

Metric = Literal["exact_match", "token_accuracy", "log_probability"]
AnySource = (
    TextFiles | Jsonl | Parquet | ArrayRecord | InMemory | StandardLibraryCode
    | StandardLibraryProse | Addition | AssociativeRecall | Copying | LookupChain
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Example:
    """A record as tokens; all arrays are [length].

    The inputs are the begin token and the text, the targets the text and the end token, so each
    input's target is the token after it.

    Attributes:
      inputs: int32.
      targets: int32.
      weights: float32, 1 where the target is to be learnt.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True)
class Text:
    """Documents: every token is learnt, and a document may be split over rows.

    Attributes:
      field: the record's field that holds the text.
    """

    field: str = "text"


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


@dataclasses.dataclass(frozen=True)
class Task:
    """One thing to learn.

    Attributes:
      name: in metrics, tables and plots.
      source: of the records.
      features: which fields are text, which are prompt and answer.
      codec: text to tokens; the same for all tasks of a mixture.
      metrics: how an answer is scored (only where the features have answers).
    """

    name: str
    source: AnySource
    features: Text | PromptAnswer = Text()
    codec: ByteCodec | BPECodec = ByteCodec()
    metrics: tuple[Metric, ...] = ("exact_match", "token_accuracy", "log_probability")

    @property
    def has_answers(self) -> bool:
        """Whether instances can be scored one by one."""
        return isinstance(self.features, PromptAnswer)

    def encode(self, records: Iterable[Record]) -> list[Example]:
        """Records as tokens.

        Raises:
          DataError: if a record lacks a field.
        """
        if isinstance(self.features, Text):
            texts = [field(record, self.features.field) for record in records]
            return [self._document(ids) for ids in self.codec.encode_batch(texts)]
        return [self._prompt_answer(self.features, record) for record in records]

    def instances(self, count: int, seed: int, split: Split = "heldout") -> list[Record]:
        """`count` records (or all, if there are fewer) of a split, chosen by the seed."""
        records = self.source.open(split)
        if isinstance(self.source, Addition | AssociativeRecall | Copying | LookupChain):
            first = permutation(2**16, seed, self.name, "instances")[:1]
            return read_records(records, range(int(first[0]) * count, (int(first[0]) + 1) * count))
        order = permutation(len(records), seed, self.name, "instances")[:count]
        return read_records(records, [int(index) for index in order])

    def _document(self, ids: np.ndarray) -> Example:
        codec = self.codec
        return Example(
            inputs=np.concatenate([[codec.begin_id], ids]).astype(np.int32),
            targets=np.concatenate([ids, [codec.end_id]]).astype(np.int32),
            weights=np.ones(len(ids) + 1, np.float32),
        )

    def _prompt_answer(self, features: PromptAnswer, record: Record) -> Example:
        ids, weights = [], []
        for prompt, answer in features.turns(record):
            for text, is_learnt in ((prompt, features.loss_on_prompt), (answer, True)):
                encoded = self.codec.encode(text)
                ids.append(encoded)
                weights.append(np.full(len(encoded), is_learnt, np.float32))
        example = self._document(np.concatenate(ids))
        return dataclasses.replace(
            example, weights=np.concatenate([*weights, np.ones(1)]).astype(np.float32)
        )


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


def read_records(records: Records, indices: Sequence[int] | range) -> list[Record]:
    """Several records at once, in one call where the source can."""
    if hasattr(records, "__getitems__"):
        return records.__getitems__(indices)  # pyright: ignore[reportAttributeAccessIssue]
    return [records[index] for index in indices]
