"""A task: its source, the tokens that its records become, and how its answers are scored."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.codec import Codec
from jaxgen.data.base import DataConfig
from jaxgen.data.features import Text
from jaxgen.data.hashing import permutation
from jaxgen.data.parts import Example
from jaxgen.data.protocols import (
    Context,
    Epoch,
    Features,
    IndexedRecords,
    IndexedSource,
    Metric,
    Preprocessor,
    Record,
    RecordSource,
    Source,
    Split,
    TokenSource,
)
from jaxgen.data.sampling import sample
from jaxgen.data.sources import some_share
from jaxgen.data.token_store import TokenStore
from jaxgen.domains import PositiveFloat, PositiveFraction, check_domains
from jaxgen.errors import DataError

MetricName = Literal["exact_match", "token_accuracy", "log_probability"]
"""The metrics that every scoring of answers by likelihood has."""
logger = logging.getLogger(__name__)
INDEXED_AT_MOST = 10_000
"""Training records of an indexed source that preprocessors may draw from."""
COMPARED = 100
"""Documents of a tokenised source whose texts are encoded again, to see whether they are whole."""
ENCODED_AT_ONCE = 1000
"""Records that a codec encodes at a time, to use all cores."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One task of a mixture; all its parts are protocols, see `data.protocols`.

    Attributes:
      name: the name in metrics, tables and plots.
      source: where the records come from.
      features: which fields are text, which are prompt and answer.
      codec: turns text into tokens; the same for all tasks of a mixture.
      metrics: scores of an answer, by name or as a part of one's own (only where the features have
        answers).
      preprocessors: the steps from the source's records to those that the features read, in order.
      epochs: how often its records may be seen; the mixture then goes on without it. None: as
        often as the mixture asks for it.
      train_share: share of the source's training records that is trained on (and that few-shot
        examples are drawn from), by a hash of each; a smaller share is part of a larger one, and
        the held-out records do not depend on it.
      version: a name for people; a task that changes gets another.
    """

    name: str
    source: Source
    features: Features = Text()
    codec: Codec = ByteCodec()
    metrics: tuple[MetricName | Metric, ...] = ("exact_match", "token_accuracy", "log_probability")
    preprocessors: tuple[Preprocessor, ...] = ()
    epochs: PositiveFloat | None = None
    train_share: PositiveFraction = 1.0
    version: str = "1"

    def __post_init__(self):
        check_domains(self, "task")
        if self.train_share < 1 and (self.is_indexed or self.is_tokenised):
            raise DataError(
                f"task {self.name}: train_share={self.train_share} takes a part of stored records, "
                f"of which {type(self.source).__name__} has none; set its number of examples, or "
                "prepare a corpus of fewer files."
            )

    @property
    def identity(self) -> str:
        """Returns name@version."""
        return f"{self.name}@{self.version}"

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Returns the names of the metrics."""
        return tuple(one if isinstance(one, str) else one.name for one in self.metrics)

    @property
    def own_metrics(self) -> tuple[Metric, ...]:
        """Returns the metrics that are parts of their own, not names."""
        return tuple(one for one in self.metrics if not isinstance(one, str))

    @property
    def has_answers(self) -> bool:
        """Returns whether instances can be scored one by one."""
        return self.features.has_answers

    @property
    def has_blocks(self) -> bool:
        """Returns whether some tokens may attend to later ones, if the model allows that."""
        denoising = self.features.denoising
        return not self.features.is_split if denoising is None else denoising.has_blocks

    @property
    def has_pairs(self) -> bool:
        """Returns whether segments are pairs of spans, see `Batch.pair_labels`."""
        return getattr(self.features.denoising, "makes_pairs", False)

    @property
    def is_indexed(self) -> bool:
        """Returns whether records are made on the spot, by index."""
        return isinstance(self.source, IndexedSource)

    @property
    def is_tokenised(self) -> bool:
        """Returns whether the source has tokens and no records."""
        return isinstance(self.source, TokenSource)

    @property
    def draws(self) -> bool:
        """Returns whether records are drawn anew in each epoch, by a preprocessor that says so."""
        return any(getattr(step, "draws", False) for step in self.preprocessors)

    @property
    def every_task(self) -> tuple[Task, ...]:
        """Returns the task itself, as a part of a mixture."""
        return (self,)

    def with_codec(self, codec: Codec) -> Task:
        """Returns the task with another codec."""
        return dataclasses.replace(self, codec=codec)

    def shares(self, rows_per_epoch: Mapping[str, int]) -> dict[str, Fraction]:
        """Returns the shares of the tasks in this part of a mixture, see `Mixture.shares`."""
        del rows_per_epoch
        return {self.name: Fraction(1)}

    def records_by_index(self, split: Split) -> IndexedRecords:
        """Opens the records of an indexed source, before the preprocessors."""
        assert isinstance(self.source, IndexedSource), "callers ask is_indexed"
        return self.source.records_by_index(split)

    def raw_records(self, split: Split) -> Iterator[Record]:
        """Yields a split's records before the preprocessors; of the training records, a share.

        Raises:
          DataError: if they cannot be read, or there are none.
        """
        if self.is_indexed:
            records = self.records_by_index(split)
            return (records.__getitems__([index])[0] for index in range(len(records)))
        if isinstance(self.source, TokenSource):
            return self._decoded(self.source.tokens(split, self.codec))
        assert isinstance(self.source, RecordSource), "no other kind is left"
        records = self.source.read(split)
        if split != "train" or self.train_share == 1:
            return records
        return some_share(records, self.train_share, getattr(self.source, "key_field", None))

    def records(self, split: Split, epoch: Epoch | None = None) -> Iterator[Record]:
        """Yields a split's records after the preprocessors, in the source's order."""
        return self.processed(self.raw_records(split), epoch)

    def processed(self, records: Iterable[Record], epoch: Epoch | None = None) -> Iterator[Record]:
        """Yields records of the source after the preprocessors; see `Context.epoch`."""
        stream = iter(records)
        for place, step in enumerate(self.preprocessors):
            kept = self._kept_for(place, epoch) if self.is_indexed else {}
            opening = self._training_records(place, epoch)
            stream = step.apply(stream, Context(opening, epoch, kept))
        return stream

    @functools.cached_property
    def _kept(self) -> dict[tuple[int, Epoch | None], dict[Any, Any]]:
        return {}

    def _kept_for(self, place: int, epoch: Epoch | None) -> dict[Any, Any]:
        """Returns what a step of an indexed source has kept for an epoch."""
        key = place, epoch
        if key not in self._kept and len(self._kept) >= 2 * len(self.preprocessors):
            self._kept.clear()  # Of epochs that are over.
        return self._kept.setdefault(key, {})

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}

    def encode(self, records: Iterable[Record], has_source: bool = False) -> list[Example]:
        """Returns the tokens of records that are already processed; see `Features.encode`.

        Raises:
          DataError: if a record lacks a field.
        """
        try:
            return self.features.encode(records, self.codec, has_source)
        except DataError as error:
            raise DataError(f"task {self.name}: {error}") from error

    def examples(
        self, split: Split, has_source: bool = False, epoch: Epoch | None = None
    ) -> Iterator[Example]:
        """Yields the tokens of a split's records."""
        records, skipped = self.records(split, epoch), 0
        while chosen := list(itertools.islice(records, ENCODED_AT_ONCE)):
            try:
                yield from self.encode(chosen, has_source)
            except DataError:
                if getattr(self.source, "on_error", "raise") == "raise":
                    raise
                for record in chosen:
                    try:
                        yield from self.encode([record], has_source)
                    except DataError as error:
                        skipped += 1
                        logger.log(logging.WARNING if skipped == 1 else logging.DEBUG, "%s", error)
        if skipped:
            logger.warning("task %s: %d unusable record(s) skipped", self.name, skipped)

    def instances(self, count: int, seed: int, split: Split = "heldout") -> list[Record]:
        """Returns `count` records (or all, if there are fewer) of a split, chosen by the seed."""
        if self.is_indexed:
            block = int(permutation(2**16, seed, self.name, "instances")[0])
            places = range(block * count, (block + 1) * count)
            return list(self.processed(self.records_by_index(split).__getitems__(places)))
        return sample(self.records(split), count, seed, self.name, "instances")

    def _decoded(self, store: TokenStore) -> Iterator[Record]:
        """Yields the texts of documents that a source holds as tokens."""
        for place in range(len(store.lengths)):
            ids = store.example(place).ids
            text = self.codec.decode(ids)
            if place < COMPARED and not np.array_equal(self.codec.encode(text), ids):
                raise DataError(
                    f"task {self.name}: the tokenizer does not restore the texts of "
                    f"{type(self.source).__name__} from their tokens, so that preprocessors have "
                    "nothing to work on; give the task the texts themselves."
                )
            yield {"text": text}

    def _training_records(self, steps: int, epoch: Epoch | None) -> Callable[[], Iterator[Record]]:
        """Returns a function that opens the training records after so many preprocessors."""
        before = dataclasses.replace(self, preprocessors=self.preprocessors[:steps])

        def stream() -> Iterator[Record]:
            records = self.raw_records("train")
            # An indexed source may have millions of records, which cost time to make.
            return before.processed(
                itertools.islice(records, INDEXED_AT_MOST) if self.is_indexed else records, epoch
            )

        return stream


def tasks_of(data: DataConfig) -> tuple[Task, ...]:
    """Returns the tasks that are evaluated one by one; none where the data is not made of tasks."""
    return getattr(data, "every_task", ())


def all_tasks(data: DataConfig) -> tuple[Task, ...]:
    """Returns the tasks that data are read from, of pairs and of rows of media the one."""
    one = getattr(data, "task", None)
    return tasks_of(data) or getattr(data, "tasks", ()) or (() if one is None else (one,))


def sources_of(data: DataConfig) -> dict[str, Source]:
    """Returns the sources of data by the name of their task, those that data says it reads."""
    own = getattr(data, "sources", None)
    return {task.name: task.source for task in tasks_of(data)} if own is None else own
