"""The parts of a task as protocols: any frozen dataclass with these methods is one.

jaxgen's own parts use nothing that a user's part cannot. From Python no registration is needed:

    @dataclasses.dataclass(frozen=True)
    class Lines:  # a RecordSource
        path: str

        def read(self, split):
            with open(self.path) as file:
                for line in file:
                    if is_heldout(line, 0.01) == (split == "heldout"):
                        yield {"text": line}

        def content_digest(self):
            return stamp_of(self.path)

    @dataclasses.dataclass(frozen=True)
    class LowerCase:  # a Preprocessor
        def apply(self, records, context):
            return (record | {"text": record["text"].lower()} for record in records)

    Task("poems", Lines("poems.txt"), preprocessors=(LowerCase(),))

`codecs.codec.Codec` is the protocol of codecs, `data.base` that of whole data sets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.data.draws import Draws
from jaxgen.data.parts import Example
from jaxgen.data.segments import Segment
from jaxgen.data.token_store import TokenStore

Split = Literal["train", "heldout"]
Record = dict[str, Any]
Sizes = tuple[np.ndarray, np.ndarray]
"""[n] tokens in a row, and [n] tokens in the encoder's row."""


@runtime_checkable
class RecordSource(Protocol):
    """A source of stored records, which are tokenised once into the cache.

    It may also have the attributes `key_field` (the field that tells records apart), `on_error`
    ("skip" leaves out records that features cannot read) and `chance` (the rate of exact matches
    that the best constant answer gets).
    """

    def read(self, split: Split) -> Iterator[Record]:
        """Yields the records of a split in a fixed order; raises DataError naming the fault."""
        ...

    def content_digest(self) -> str:
        """Returns a text that changes when the records do."""
        ...


class IndexedRecords(Protocol):
    """Random access to the records of one split."""

    def __len__(self) -> int:
        """Returns the number of records in an epoch; larger indices are allowed too."""
        ...

    def __getitems__(self, indices: Sequence[int], /) -> list[Record]: ...


@runtime_checkable
class IndexedSource(Protocol):
    """A source that makes any record on the spot, by its index; nothing is stored."""

    def records_by_index(self, split: Split) -> IndexedRecords:
        """Opens the records of a split: record i is a function of (source, split, i)."""
        ...


@runtime_checkable
class TokenSource(Protocol):
    """A source of documents that are tokenised already."""

    def tokens(self, split: Split, codec: Codec) -> TokenStore:
        """Opens the documents of a split; raises DataError if another codec made them."""
        ...

    def content_digest(self) -> str:
        """Returns a text that changes when the tokens do."""
        ...


Source = RecordSource | IndexedSource | TokenSource


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One of the times that a run trains on the records of a task.

    Attributes:
      seed: the seed of the run's order.
      task: the task's name.
      number: counted from 0.
    """

    seed: int
    task: str
    number: int


@dataclasses.dataclass(frozen=True)
class Context:
    """The data beside its stream that a preprocessor may ask for.

    Attributes:
      training_records: opens a fresh stream of the training split's records, as they reach this
        preprocessor.
      epoch: the epoch that the records are drawn for; None where they are the same each time, as
        in evaluations and in the held-out split.
      kept: what a step has worked out from the training records for this epoch; the records of an
        indexed source come in many small streams, which share it.
    """

    training_records: Callable[[], Iterator[Record]]
    epoch: Epoch | None = None
    kept: dict[Any, Any] = dataclasses.field(default_factory=dict)


@runtime_checkable
class Preprocessor(Protocol):
    """One step from a source's records to those that the features read.

    It may change a record, leave it out or make several of it. Whatever it draws at random depends
    on the record, its own seed and `context.epoch` alone, never on the order of the records. A step
    that draws says so by an attribute `draws = True`; the records of its task are then made anew
    for each epoch. One that reads a file has a method `content_digest()`, whose text changes when
    the file does.
    """

    def apply(self, records: Iterator[Record], context: Context, /) -> Iterator[Record]:
        """Yields the records after the step; raises DataError naming a field that is missing."""
        ...


@runtime_checkable
class Denoising(Protocol):
    """A corruption that is drawn anew each time a text is seen; the model predicts what was there.

    Attributes:
      has_blocks: whether some tokens of a segment may attend to later ones.

    One with an attribute `makes_pairs = True` has a further argument of `segment`, `other`, which
    draws up to so many tokens of another document (see `sentence_pairs`).
    """

    @property
    def has_blocks(self) -> bool: ...

    def sizes(self, chunks: np.ndarray, codec: Codec, has_source: bool) -> Sizes:
        """Maps [n] lengths of chunks to the sizes of their segments, before anything is drawn."""
        ...

    def segment(self, ids: np.ndarray, codec: Codec, draws: Draws, has_source: bool) -> Segment:
        """Returns the segment of a chunk of a text.

        Args:
          ids: [tokens] of the chunk.
          codec: the codec of the control tokens.
          draws: the random numbers.
          has_source: whether an encoder reads the corrupted text.
        """
        ...


@runtime_checkable
class Features(Protocol):
    """The fields of a record that become tokens, and how these become rows.

    Attributes:
      is_split: whether an example may be split over rows; without a denoising such examples are
        laid end to end, and each token is predicted from those before it.
      denoising: the corruption of the tokens; None leaves them as they are.
      has_answers: whether examples have answers, which are scored one by one.
    """

    @property
    def is_split(self) -> bool: ...

    @property
    def denoising(self) -> Denoising | None: ...

    @property
    def has_answers(self) -> bool: ...

    def identity(self) -> tuple[object, ...]:
        """Returns all that the tokens depend on beside the records; a denoising does not count."""
        ...

    def encode(
        self, records: Iterable[Record], codec: Codec, has_source: bool = False
    ) -> list[Example]:
        """Returns the tokens of each record.

        Args:
          records: after the preprocessors.
          codec: the codec.
          has_source: whether an encoder reads what comes before the first answer, so that the two
            are texts by themselves.

        Raises:
          DataError: if a record lacks a field.
        """
        ...


@runtime_checkable
class Metric(Protocol):
    """A score of one answer, reported as its mean over the instances.

    Attributes:
      name: the column in evaluation rows.
    """

    @property
    def name(self) -> str: ...

    def score(self, record: Record, reference: str, completion: str) -> float:
        """Returns the score of what the model wrote.

        Args:
          record: the instance, prompt included, after the preprocessors.
          reference: the correct answer.
          completion: the model's answer.
        """
        ...
