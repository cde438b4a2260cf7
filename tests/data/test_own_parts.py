"""A task of a stranger's own parts: none inherits from jaxgen, and none is registered."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from jaxgen.data.base import Data, DataConfig
from jaxgen.data.features import PromptAnswer, Text
from jaxgen.data.mixtures import Mixture
from jaxgen.data.parts import Example
from jaxgen.data.protocols import Denoising, Features, IndexedSource, Preprocessor, RecordSource
from jaxgen.data.segments import Segment
from jaxgen.data.showing import show
from jaxgen.data.statistics import ReadingPlan, describe
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))


@dataclasses.dataclass(frozen=True)
class Counting:
    """Stored records: "0, 1, 2" and so on."""

    count: int = 40

    def read(self, split):
        for last in range(split == "heldout", self.count, 2):
            yield {"numbers": list(range(last + 1))}

    def content_digest(self):
        return str(self.count)


@dataclasses.dataclass(frozen=True)
class Squares:
    """Records by index."""

    num_examples: int = 1000

    def __len__(self):
        return self.num_examples

    def __getitems__(self, indices):
        return [
            {"prompt": f"{i % 90 + 10}^2=", "answer": f"{(i % 90 + 10) ** 2:04}"} for i in indices
        ]

    def records_by_index(self, split):
        del split
        return self


@dataclasses.dataclass(frozen=True)
class Largest:
    """A preprocessor that drops all but the last numbers."""

    count: int

    def apply(self, records, context):
        del context
        return (record | {"numbers": record["numbers"][-self.count :]} for record in records)


@dataclasses.dataclass(frozen=True)
class Digits:
    """A codec of ten digits and a comma; 11 pads, 12 begins, 13 ends."""

    vocab_size = 14
    pad_id, begin_id, end_id = 11, 12, 13
    digest = "digits"
    plain_ids = np.arange(11)

    def special_id(self, name):
        raise DataError(f"no control token {name}")

    def encode(self, text, *, parse_special=False):
        del parse_special
        return np.array(["0123456789,".index(one) for one in text], np.int32)

    def encode_batch(self, texts):
        return [self.encode(text) for text in texts]

    def decode(self, ids, *, keep_special=False):
        del keep_special
        return "".join("0123456789,"[i] for i in ids if i < 11)

    def pieces(self, ids):
        return [str(i) for i in ids]

    def keep_in(self, folder):
        del folder


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Features: the numbers of a record with commas between them, never split over rows."""

    denoising: Any = None

    is_split = False
    has_answers = False

    def identity(self):
        return ()

    def encode(self, records, codec, has_source=False):
        return [Example(codec.encode(",".join(map(str, one["numbers"])))) for one in records]


@dataclasses.dataclass(frozen=True)
class Reversal:
    """A denoising: the text backwards, to be written in its order."""

    has_blocks = False

    def sizes(self, chunks, codec, has_source):
        return 2 * chunks + 2, np.zeros_like(chunks)

    def segment(self, ids, codec, draws, has_source):
        tokens = np.concatenate([[codec.begin_id], ids[::-1], [codec.end_id], ids])
        weights = (np.arange(len(tokens)) > len(ids)).astype(np.float32)
        return Segment(tokens, np.append(tokens[1:], codec.end_id), weights)


def texts_of(batch, codec):
    """The texts in the loss of each segment, by task."""
    found = []
    for row in range(len(batch.tokens)):
        for segment in range(1, batch.segment_ids[row].max() + 1):
            chosen = (batch.segment_ids[row] == segment) & (batch.loss_weights[row] > 0)
            found.append((batch.task_ids[row, 0], codec.decode(batch.targets[row][chosen])))
    return found


def test_a_task_of_own_parts_is_mixed_packed_shown_and_described():
    codec = Digits()
    steps = (Largest(2),)
    counts = Task("counts", Counting(), Numbers(), codec, preprocessors=steps)
    turned = Task("turned", Counting(), Numbers(Reversal()), codec, preprocessors=steps)
    assert isinstance(counts.source, RecordSource) and isinstance(turned.features, Features)
    assert isinstance(Reversal(), Denoising) and isinstance(Largest(1), Preprocessor)
    mixture = Mixture("own", (counts, turned), {"counts": 1.0, "turned": 1.0})
    assert isinstance(mixture, DataConfig)
    data: Data = mixture.open(batch_size=4, length=32, seed=0)
    written = {"0"} | {f"{n - 1},{n}" for n in range(2, 40, 2)}
    seen = set()
    for step in range(20):
        seen |= set(texts_of(data.batch(step), codec))
    assert seen == {(task, text) for task in (0, 1) for text in written}
    (shown,) = show(turned, 1, 0, 100, has_source=False)
    assert shown.segments[0].weights.sum() == (len(shown.segments[0].tokens) - 2) / 2 + 1
    plan = ReadingPlan(batch_size=4, length=32, source_length=None, num_rows=16)
    assert [one.documents for one in describe(mixture, plan)] == [20, 20]


def test_an_indexed_source_of_ones_own_needs_one_method():
    task = Task("squares", Squares(), PromptAnswer())
    assert isinstance(task.source, IndexedSource) and not isinstance(task.source, RecordSource)
    batch = Mixture("m", (task,)).open(batch_size=4, length=64, seed=0).batch(0)
    for row, segments in zip(batch.tokens, batch.segment_ids, strict=True):
        text = task.codec.decode(row[segments == 1])
        base, square = text.split("^2=")
        assert int(base) ** 2 == int(square)
    assert len(task.instances(7, seed=0)) == 7
    with pytest.raises(DataError, match=r"Squares has none"):
        dataclasses.replace(task, train_share=0.5)


def test_a_denoising_of_records_by_index_is_refused():
    texts = Text("prompt", Reversal())
    with pytest.raises(DataError, match="made by index are kept whole"):
        Mixture("m", (Task("t", Squares(), texts),)).open(batch_size=4, length=64, seed=0)
