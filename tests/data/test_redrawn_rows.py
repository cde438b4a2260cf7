"""What preprocessors draw is drawn anew in each epoch, and is the same each time it is made."""

import dataclasses
import json
import logging
from typing import Any

import numpy as np
import pytest

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.special import SpecialTokens
from jaxgen.data import sampling
from jaxgen.data.features import PromptAnswer, Text
from jaxgen.data.few_shot import FewShot
from jaxgen.data.generated import Addition
from jaxgen.data.generated_rows import ROWS_AT_ONCE
from jaxgen.data.infilling import FillInTheMiddle
from jaxgen.data.mixtures import Mixture
from jaxgen.data.packing import RowShape
from jaxgen.data.prepared import DIGESTED, FORMAT, PreparedCorpus
from jaxgen.data.preprocessors import Rename, Template
from jaxgen.data.protocols import Epoch
from jaxgen.data.redrawn_rows import RedrawnRows
from jaxgen.data.rows import open_rows, open_store
from jaxgen.data.sources import InMemory
from jaxgen.data.storage import digest_of
from jaxgen.data.tasks import Task
from jaxgen.data.token_files import TokenWriter
from jaxgen.data.token_store import cache_folder
from jaxgen.errors import ConfigError, DataError

CODEC = ByteCodec(SpecialTokens())
QUESTIONS = tuple({"q": f"question {i}", "a": f" {i * 7}."} for i in range(60))
TEXTS = tuple({"text": f"<{i:02}>" + f"{i * i * i % 997} words. " * (2 + i % 5)} for i in range(60))
ASKING = Template({"prompt": ("Q: {q}\nA:", "{q}?", "Please answer {q}:"), "answer": "{a}"})
SHAPE = RowShape(256)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))


def templates():
    return Task("t", InMemory(QUESTIONS, 0.2), PromptAnswer(), CODEC, preprocessors=(ASKING,))


def few_shot():
    steps = (Rename({"q": "prompt", "a": "answer"}), FewShot(2))
    return Task("t", InMemory(QUESTIONS, 0.2), PromptAnswer(), CODEC, preprocessors=steps)


def infilling():
    return Task("t", InMemory(TEXTS, 0.2), Text(), CODEC, preprocessors=(FillInTheMiddle(),))


def made_by_index():
    source = Addition(2, num_examples=100)
    return Task("t", source, PromptAnswer(), CODEC, preprocessors=(FewShot(2, pool=40),))


def corpus(folder, codec=CODEC):
    """Documents that a preparation has stored as tokens."""
    with TokenWriter(folder, "train-0", codec.vocab_size) as writer:
        for record in TEXTS:
            writer.add(codec.encode(record["text"]))
    size = {"name": "train-0", "tokens": writer.offsets[-1], "documents": len(TEXTS)}
    size["digest"] = digest_of([str(folder / f"train-0.{kind}") for kind in DIGESTED])
    manifest = {
        "format": FORMAT, "codec": codec.digest, "settings": {"files": {}},
        "splits": {"train": [size], "heldout": []},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    source = PreparedCorpus(str(folder))
    return Task("t", source, Text(), codec, preprocessors=(FillInTheMiddle(),))


KINDS = [templates, few_shot, infilling, made_by_index]


def texts(rows, epoch):
    """The sorted texts of an epoch's segments."""
    first = epoch * rows.rows_per_epoch
    found = []
    for index in range(first, first + rows.rows_per_epoch):
        row = rows.row(index)
        for segment in range(1, row["segment_ids"].max() + 1):
            found.append(CODEC.decode(row["targets"][row["segment_ids"] == segment]))
    return sorted(found)


@pytest.mark.parametrize("kind", [*KINDS, corpus])
def test_each_epoch_and_seed_has_its_own_draws_and_the_same_each_time(kind, tmp_path, monkeypatch):
    task = kind(tmp_path) if kind is corpus else kind()
    rows = open_rows(task, SHAPE, 0, "train")
    epochs = [texts(rows, epoch) for epoch in range(3)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert len(set(epochs[one]) - set(epochs[other])) > len(epochs[one]) / 5
    assert texts(open_rows(task, SHAPE, 1, "train"), 1) != epochs[1]
    # Random access, from an empty cache: a later epoch needs none before it.
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "other"))
    again = open_rows(task, SHAPE, 0, "train")
    assert [texts(again, epoch) for epoch in (2, 0, 1)] == [epochs[n] for n in (2, 0, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_evaluated_has_the_same_draws_in_every_run(kind):
    task = kind()
    assert task.instances(5, 0) == task.instances(5, 0)
    if not task.is_indexed:
        stores = [open_store(task, "heldout") for _ in range(2)]
        rows = [open_rows(task, RowShape(64), seed, "heldout") for seed in (0, 1)]
        assert stores[0] == stores[1] and rows[0].rows_per_epoch == rows[1].rows_per_epoch
        assert len(list((cache_folder()).iterdir())) == 1


def test_every_record_is_in_every_epoch_but_for_a_row_or_two():
    """Each answer is a number of its own."""
    rows = open_rows(few_shot(), SHAPE, 0, "train")
    every = {record["answer"] for record in few_shot().records("train")}
    assert rows.examples_per_epoch == len(every)
    for epoch in range(6):
        seen = [text.rsplit(" ", 1)[1] for text in texts(rows, epoch)]
        assert len(every) - len(set(seen)) <= 4 and len(seen) - len(set(seen)) <= 4


def test_a_batch_is_a_function_of_the_step_in_any_process():
    mixture = Mixture("m", (templates(), dataclasses.replace(infilling(), name="u")))
    opened = [mixture.open(batch_size=2, length=256, seed=3) for _ in range(2)]
    steps = list(range(16))
    batches = [opened[0].batch(step) for step in steps]
    for step, batch in zip(opened[1].iterate(0), batches, strict=False):
        assert np.array_equal(step.targets, batch.targets)
    for step in steps[::-1]:
        assert np.array_equal(opened[1].batch(step).targets, batches[step].targets)
    assert min(opened[0].epochs_seen(32).values()) > 2


def test_a_prepared_corpus_of_a_tokenizer_that_loses_text_has_no_preprocessors(tmp_path):
    class Lossy(ByteCodec):
        def decode(self, *args, **options):
            return super().decode(*args, **options).lower().replace("<", "")

    task = corpus(tmp_path, Lossy(SpecialTokens()))
    with pytest.raises(DataError, match="does not restore the texts of PreparedCorpus"):
        open_rows(task, SHAPE, 0, "train")


def test_examples_that_outgrow_a_row_later_are_left_out_with_a_word(caplog):
    """At the start they are an error; a draw must not end a run that is under way."""
    long = tuple({"prompt": "p" * i, "answer": "a"} for i in range(2, 60))
    task = Task("t", InMemory(long, 0.0), PromptAnswer(), CODEC, preprocessors=(FewShot(2),))
    longest = [
        int(open_store(task, "train", epoch=Epoch(1, "t", n)).lengths.max()) + 1 for n in range(4)
    ]
    fitting = longest[0]
    assert max(longest) > fitting
    rows = open_rows(task, RowShape(fitting), 1, "train")
    with caplog.at_level(logging.WARNING):
        found = [texts(rows, epoch) for epoch in range(4)]
    assert "of an epoch's examples do not fit a row" in caplog.text
    assert all(len(text) <= fitting for epoch in found for text in epoch)
    with pytest.raises(DataError, match=r"task t: an example of \d+ tokens does not fit"):
        open_rows(task, RowShape(fitting - 1), 1, "train")


def test_variants_of_templates_go_together_and_come_equally_often():
    step = Template({"prompt": ("A {q}", "B {q}"), "answer": ("a{a}", "b{a}")})
    task = Task("t", InMemory(QUESTIONS, 0.0), PromptAnswer(), preprocessors=(step,))
    made = list(task.records("train"))
    assert all(r["prompt"][0].lower() == r["answer"][0] for r in made)
    assert 15 < sum(r["prompt"][0] == "A" for r in made) < 45
    assert not dataclasses.replace(task, preprocessors=(Template({"prompt": ("{q}",)}),)).draws
    for wrong in ({"a": ("x", "y"), "b": ("z",)}, {"a": ()}):
        with pytest.raises(ConfigError, match="variants; give each of these fields equally many"):
            Template(wrong)


def test_solved_examples_of_a_generated_task_are_sampled_once_an_epoch(monkeypatch):
    """Rows are made in blocks of records, and the sample costs as much as hundreds of them."""
    calls = []
    plain = sampling.sample
    monkeypatch.setattr(
        "jaxgen.data.few_shot.sample", lambda *one: calls.append(one[1:]) or plain(*one)
    )
    source = Addition(2, num_examples=300)
    rows = open_rows(dataclasses.replace(made_by_index(), source=source), SHAPE, 0, "train")
    assert rows.rows_per_epoch > 2 * ROWS_AT_ONCE
    for epoch in range(3):
        texts(rows, epoch)
        assert len(calls) == epoch + 1


@dataclasses.dataclass
class Numbered:
    """The rows of an epoch, each of which says of which it is."""

    epoch: int
    rows_per_epoch = examples_per_epoch = 4
    share_used = 1.0

    def row(self, index):
        return self.epoch


class Interleaved(RedrawnRows):
    """Between any two looks at the rows that are open, another thread reads the seventh epoch."""

    @property
    def _opened(self):
        found, self.__dict__["now"] = self.__dict__["now"], (7, Numbered(7))
        return found

    @_opened.setter
    def _opened(self, opened):
        self.__dict__["now"] = opened


def test_what_another_thread_reads_meanwhile_changes_nothing():
    numbered: Any = Numbered
    rows = Interleaved(numbered)
    assert [rows.row(index) for index in (0, 5, 5, 9, 29, 1)] == [0, 1, 1, 2, 7, 0]
