"""A task: where its records come from, which tokens they become, what is learnt and scored."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Iterator
from typing import Literal

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.sentencepiece import SentencePieceCodec
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.data.bigbench import BigBench
from jaxgen.data.chat import Chat
from jaxgen.data.denoising import PrefixLM, SpanCorruption
from jaxgen.data.embedded import StandardLibraryCode, StandardLibraryProse
from jaxgen.data.features import PromptAnswer, Text
from jaxgen.data.few_shot import FewShot
from jaxgen.data.generated import Generated
from jaxgen.data.hashing import permutation
from jaxgen.data.infilling import FillInTheMiddle
from jaxgen.data.parts import Example
from jaxgen.data.prepared import PreparedCorpus
from jaxgen.data.preprocessors import Choices, Context, Keep, Rename, Template
from jaxgen.data.sampling import sample
from jaxgen.data.sources import InMemory, Record, Split, some_share
from jaxgen.data.tables import ArrayRecord, HuggingFaceDataset, Parquet, WebDataset
from jaxgen.data.text_files import Jsonl, TextFiles
from jaxgen.errors import DataError

Metric = Literal["exact_match", "token_accuracy", "log_probability"]
AnySource = (
    TextFiles | Jsonl | Parquet | ArrayRecord | HuggingFaceDataset | WebDataset | BigBench
    | InMemory | PreparedCorpus | StandardLibraryCode | StandardLibraryProse | Generated
)  # fmt: skip
AnyPreprocessor = Rename | Template | Choices | Keep | FewShot | FillInTheMiddle
AnyFeatures = Text | PromptAnswer | Chat
logger = logging.getLogger(__name__)
ENCODED_AT_ONCE = 1000
"""Records that a codec is given at a time, to use all cores."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One thing to learn.

    Attributes:
      name: in metrics, tables and plots.
      source: of the records.
      features: which fields are text, which are prompt and answer.
      codec: text to tokens; the same for all tasks of a mixture.
      metrics: how an answer is scored (only where the features have answers).
      preprocessors: from the source's records to those that the features read, in order.
      epochs: how often its records may be seen; the mixture then goes on without it. None: as
        often as the mixture asks for it.
      train_share: of the source's training records, the share that is trained on (and few-shot
        examples are drawn from), by a hash of each; a smaller share is part of a larger one. What
        is held out does not depend on it.
      version: told apart by a person; a task that changes gets another.
    """

    name: str
    source: AnySource
    features: AnyFeatures = Text()
    codec: ByteCodec | TokenizerCodec | SentencePieceCodec = ByteCodec()
    metrics: tuple[Metric, ...] = ("exact_match", "token_accuracy", "log_probability")
    preprocessors: tuple[AnyPreprocessor, ...] = ()
    epochs: float | None = None
    train_share: float = 1.0
    version: str = "1"

    def __post_init__(self):
        if self.epochs is not None and not self.epochs > 0:
            raise DataError(f"task {self.name}: epochs={self.epochs} must be positive, or None.")
        if not 0 < self.train_share <= 1:
            raise DataError(
                f"task {self.name}: train_share={self.train_share} must lie in (0, 1]; 1 takes all "
                "training records."
            )
        if self.train_share < 1 and isinstance(self.source, Generated | PreparedCorpus):
            instead = (
                "set its source's num_examples"
                if isinstance(self.source, Generated)
                else "prepare a corpus of fewer files"
            )
            raise DataError(
                f"task {self.name}: train_share={self.train_share} takes a part of stored records, "
                f"of which {type(self.source).__name__} has none; {instead}."
            )

    @property
    def identity(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"

    @property
    def has_answers(self) -> bool:
        """Whether instances can be scored one by one."""
        return not isinstance(self.features, Text)

    @property
    def has_blocks(self) -> bool:
        """Whether some tokens may see later ones, in a model that lets blocks do so."""
        if not isinstance(self.features, Text):
            return True
        return isinstance(self.features.objective, PrefixLM | SpanCorruption)

    def raw_records(self, split: Split) -> Iterator[Record]:
        """A split's records as the source gives them; of the training records, the task's share.

        Raises:
          DataError: if they cannot be read, or there are none.
        """
        records = self.source.read(split)
        if split != "train" or self.train_share == 1:
            return records
        key_field = getattr(self.source, "key_field", None)
        return some_share(records, self.train_share, key_field)

    def records(self, split: Split) -> Iterator[Record]:
        """A split's records after the preprocessors, in the source's order."""
        return self.processed(self.raw_records(split))

    def processed(self, records: Iterable[Record]) -> Iterator[Record]:
        """Records of the source after the preprocessors."""
        stream = iter(records)
        for place, step in enumerate(self.preprocessors):
            stream = step.apply(stream, Context(self._training_records(place)))
        return stream

    def encode(self, records: Iterable[Record]) -> list[Example]:
        """Records, already processed, as tokens.

        Raises:
          DataError: if a record lacks a field.
        """
        try:
            return self.features.encode(records, self.codec)
        except DataError as error:
            raise DataError(f"task {self.name}: {error}") from error

    def examples(self, split: Split) -> Iterator[Example]:
        """A split's records as tokens."""
        records, skipped = self.records(split), 0
        while chosen := list(itertools.islice(records, ENCODED_AT_ONCE)):
            try:
                yield from self.encode(chosen)
            except DataError:
                if getattr(self.source, "on_error", "raise") == "raise":
                    raise
                for record in chosen:
                    try:
                        yield from self.encode([record])
                    except DataError as error:
                        skipped += 1
                        logger.log(logging.WARNING if skipped == 1 else logging.DEBUG, "%s", error)
        if skipped:
            logger.warning("task %s: %d record(s) of no use skipped", self.name, skipped)

    def instances(self, count: int, seed: int, split: Split = "heldout") -> list[Record]:
        """`count` records (or all, if there are fewer) of a split, chosen by the seed."""
        if isinstance(self.source, Generated):
            block = int(permutation(2**16, seed, self.name, "instances")[0])
            drawn = self.source.open(split).__getitems__(range(block * count, (block + 1) * count))
            return list(self.processed(drawn))
        return sample(self.records(split), count, seed, self.name, "instances")

    def _training_records(self, steps: int):
        def stream() -> Iterator[Record]:
            if isinstance(self.source, Generated):
                records = self.source.open("train")
                raw = (records[index] for index in range(10_000))
            else:
                raw = self.raw_records("train")
            return dataclasses.replace(self, preprocessors=self.preprocessors[:steps]).processed(
                raw
            )

        return stream
