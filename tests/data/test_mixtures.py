"""The batch of a step depends on mixture, seed and step alone."""

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from support.shipped import bindings_of

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.special import SpecialTokens
from jaxgen.codecs.training import train_tokenizer
from jaxgen.configuration import load
from jaxgen.data.denoising import SpanCorruption
from jaxgen.data.features import PromptAnswer, Text
from jaxgen.data.generated import Addition, Copying
from jaxgen.data.mixtures import Mixture, MixtureStage
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError

TEXTS = tuple({"text": f"document {i} " * (i % 7 + 1)} for i in range(300))
TASKS = (
    Task("text", InMemory(TEXTS, heldout_fraction=0.1)),
    Task("addition", Addition(2), PromptAnswer()),
    Task("copying", Copying(7), PromptAnswer()),
)
WEIGHTS = {"text": 0.5, "addition": 0.3, "copying": 0.2}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def opened(batch_size=8, seed=0):
    return Mixture("m", TASKS, WEIGHTS).open(batch_size=batch_size, length=64, seed=seed)


def same(first, second):
    return all(
        np.array_equal(getattr(first, field.name), getattr(second, field.name))
        for field in dataclasses.fields(first)
    )


def test_reading_on_from_any_step_gives_the_batches_of_those_steps():
    data = opened()
    for start in (0, 3, 1000):
        batches = data.iterate(start)
        for step in range(start, start + 3):
            assert same(next(batches), opened().batch(step))
    assert not same(data.batch(0), data.batch(1))
    assert not same(data.batch(0), opened(seed=1).batch(0))


def test_hosts_rows_are_the_global_batch():
    data = opened()
    whole = data.batch(5)
    first = data.batch(5, rows=lambda size: range(0, size, 2))
    second = data.batch(5, rows=lambda size: range(1, size, 2))
    assert np.array_equal(first.tokens, whole.tokens[::2])
    assert np.array_equal(second.tokens, whole.tokens[1::2])


def test_a_batch_size_changes_how_rows_are_grouped_and_not_which_come():
    large, small = opened(batch_size=8), opened(batch_size=4)
    rows = np.concatenate([small.batch(step).tokens for step in (2, 3)])
    assert np.array_equal(large.batch(1).tokens, rows)


def test_growing_batches_take_the_rows_one_after_another():
    first_rows = (0, 2, 5, 13, 21)
    mixture = Mixture("m", TASKS, WEIGHTS)
    growing = mixture.open(batch_size=8, length=64, seed=0, rows_before=first_rows.__getitem__)
    whole = opened(batch_size=21).batch(0)
    batches = list(itertools.islice(growing.iterate(1), 3))
    assert [len(batch.tokens) for batch in batches] == [3, 8, 8]
    assert np.array_equal(np.concatenate([b.tokens for b in batches]), whole.tokens[2:])
    assert same(growing.batch(2), batches[1])


@pytest.mark.parametrize("task", [0, 1])
@pytest.mark.parametrize("source_length", [None, 48])
def test_the_batch_spec_is_the_shapes_and_types_of_the_batches(task, source_length, monkeypatch):
    features = Text(denoising=SpanCorruption()), PromptAnswer()
    codec = ByteCodec(SpecialTokens())
    mixture = Mixture(
        "m", (dataclasses.replace(TASKS[task], features=features[task], codec=codec),)
    )
    shape = {"batch_size": 4, "length": 64, "source_length": source_length}
    batch = mixture.open(**shape, seed=0).batch(0)
    monkeypatch.setattr(InMemory, "read", None)  # The specification reads nothing.
    spec = mixture.batch_spec(**shape)
    assert jax.tree.map(lambda array: (array.shape, array.dtype), batch) == jax.tree.map(
        lambda array: (array.shape, array.dtype), spec
    )


def test_the_order_of_writing_tasks_means_nothing():
    turned = Mixture("m", TASKS[::-1], WEIGHTS).open(batch_size=8, length=64, seed=0)
    assert turned.task_names == ("addition", "copying", "text")
    assert same(turned.batch(7), opened().batch(7))


def floats(shares):
    return {name: float(share) for name, share in shares.items()}


def test_shares_by_size_by_temperature_and_with_a_limit():
    sums, copies = TASKS[1:]
    rows = {"addition": 30, "copying": 10}
    assert floats(Mixture("m", TASKS[1:]).shares(rows)) == {"addition": 0.75, "copying": 0.25}
    limited = Mixture("m", (sums, copies), size_limit=15)
    assert floats(limited.shares(rows)) == {"addition": 0.6, "copying": 0.4}
    flat = Mixture("m", (sums, copies), {"addition": 0.8, "copying": 0.2}, temperature=2.0)
    expected = 0.8**0.5 / (0.8**0.5 + 0.2**0.5)
    assert float(flat.shares({})["addition"]) == pytest.approx(expected)


def test_a_mixture_in_a_mixture_has_its_weight_as_a_whole():
    inner = Mixture("made", TASKS[1:], {"addition": 3, "copying": 1})
    outer = Mixture("outer", (TASKS[0], inner), {"text": 0.6, "made": 0.4})
    shares = floats(outer.shares({}))
    assert shares == pytest.approx({"addition": 0.3, "copying": 0.1, "text": 0.6})
    data = outer.open(batch_size=10, length=64, seed=0)
    counts = np.bincount(
        np.concatenate([data.batch(step).task_ids[:, 0] for step in range(20)]), minlength=3
    )
    assert counts.tolist() == [60, 20, 120]
    by_size = Mixture("sizes", (TASKS[0], Mixture("made", TASKS[1:])))
    rows = {"addition": 5, "copying": 15, "text": 20}
    assert floats(by_size.shares(rows)) == {"addition": 0.125, "copying": 0.375, "text": 0.5}


def test_one_task_in_two_mixtures_has_both_shares_and_two_of_one_name_are_refused():
    both = Mixture("b", (Mixture("x", TASKS[:2]), Mixture("y", TASKS[1:])), {"x": 0.5, "y": 0.5})
    assert both.task_names == ("addition", "copying", "text")
    other = dataclasses.replace(TASKS[1], source=Addition(3))
    with pytest.raises(DataError, match="two different tasks named 'addition'"):
        Mixture("b", (Mixture("x", TASKS[:2]), Mixture("y", (other,))))


def test_weights_change_at_their_step_wherever_reading_begins():
    stages = (MixtureStage(5, {"addition": 0.0, "copying": 1.0}),)
    staged = Mixture("m", TASKS[1:], {"addition": 0.5, "copying": 0.5}, stages=stages)
    data = staged.open(batch_size=8, length=64, seed=0)
    ids = [data.batch(step).task_ids[:, 0] for step in range(8)]
    assert all((step == 1).sum() == 4 for step in ids[:5]) and all((s == 1).all() for s in ids[5:])
    fresh = staged.open(batch_size=8, length=64, seed=0)
    for step in (6, 4, 5):
        assert same(fresh.batch(step), data.batch(step))
    # With growing batches the rows before a step are others.
    growing = staged.open(batch_size=8, length=64, seed=0, rows_before=lambda step: 4 * step)
    changes = np.concatenate([growing.batch(step).task_ids[:, 0] for step in range(6)])
    assert (changes[:20] == 1).sum() == 10 and (changes[20:] == 1).all()


def test_epochs_end_and_repeats_are_counted():
    text = dataclasses.replace(TASKS[0], epochs=2)
    data = Mixture("m", (text, TASKS[1]), {"text": 0.5, "addition": 0.5}).open(
        batch_size=8, length=64, seed=0
    )
    rows = data.rows_per_epoch["text"]
    ids = np.concatenate([data.batch(step).task_ids[:, 0] for step in range(rows)])
    assert (ids == 1).sum() == 2 * rows and (ids[np.flatnonzero(ids == 1).max() + 1 :] == 0).all()
    assert data.epochs_seen(2 * rows)["text"] == pytest.approx(1)
    assert data.epochs_seen(8 * rows)["text"] == 2
    documents = data.examples_per_epoch["text"]
    assert data.examples_seen(rows)["text"] == pytest.approx(documents / 2, abs=1)
    assert data.examples_seen(8 * rows)["text"] == documents
    data.check_lasts(10**9)
    ends = Mixture("m", (text,)).open(batch_size=8, length=64, seed=0)
    ends.check_lasts(2 * rows)
    with pytest.raises(DataError, match=f"ends after {2 * rows} rows.*needs {2 * rows + 1}"):
        ends.check_lasts(2 * rows + 1)
    with pytest.raises(DataError, match="every task has ended its epochs"):
        ends.batch(rows)


@pytest.mark.slow
def test_positions_of_the_embedded_mixture_are_used():
    mixture = load(["mixtures/quickstart.gin"], root="mixture")
    for length in (128, 256):
        data = mixture.open(batch_size=100, length=length, seed=0)
        used = np.mean([(data.batch(s).segment_ids > 0).mean() for s in range(3)])
        shares = data.shares_seen(10_000)
        reported = sum(shares[name] * used for name, used in data.share_used.items())
        assert used >= 0.97 and used == pytest.approx(reported, abs=0.005)


def test_a_fresh_process_makes_the_same_batch():
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import test_mixtures as t;"
        "print(t.opened().batch(11).tokens.tobytes().hex())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    found = subprocess.run(
        [sys.executable, "-c", code, *map(str, Path(__file__).parents[:2])],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == opened().batch(11).tokens.tobytes().hex()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": ()}, ["no task"]),
        ({"tasks": (TASKS[0], TASKS[0])}, ["['text'] twice"]),
        ({"weights": {"text": 1.0}}, ["addition", "copying"]),
        ({"stages": (MixtureStage(3, {"text": 1.0}),)}, ["the stage of step 3", "addition"]),
        ({"stages": (MixtureStage(3, WEIGHTS), MixtureStage(2, WEIGHTS))}, ["[3, 2]", "grow"]),
        ({"stages": (MixtureStage(3, dict.fromkeys(WEIGHTS, 0.0)),)}, ["leaves every task out"]),
    ],
)
def test_mixtures_that_mean_nothing_are_refused(changes, words):
    settings = {"name": "m", "tasks": TASKS, "weights": WEIGHTS} | changes
    with pytest.raises(DataError) as error:
        Mixture(**settings)
    for word in words:
        assert word in str(error.value)


def test_differing_codecs_are_refused(tmp_path):
    codec = train_tokenizer(["abc"], 300, tmp_path / "tokenizer.json")
    other = dataclasses.replace(TASKS[1], codec=codec)
    with pytest.raises(DataError, match="one codec"):
        Mixture("m", (TASKS[0], other))


SHIPPED = sorted(path.name for path in Path(__file__).parents[2].glob("gin/mixtures/*.gin"))
# Of pairs and comparisons, which are no mixture (see test_pairs, test_comparisons); and parts of
# others, without a codec.
for other in (
    "sprite_pairs.gin", "emoji_pairs.gin", "emoji_captions.gin", "sprites_both_ways.gin",
    "emoji_both_ways.gin", "gold_pairs.gin", "rated_words.gin", "sprites_drawn.gin",
    "sprite_classes.gin", "feedback.gin",
):  # fmt: skip
    SHIPPED.remove(other)


LONG = {"town.gin": 768, "instructions.gin": 512}
"""Mixtures with examples that longer rows must hold."""


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("source_length", [None, 160])
def test_mixtures_that_come_with_jaxgen_give_batches(name, source_length, tmp_path):
    bindings = bindings_of(f"mixtures/{name}", tmp_path, "mixture")
    mixture = load([f"mixtures/{name}"], bindings, root="mixture")
    only_decoders = (
        "code_and_prose", "many_tasks", "quickstart", "masked", "sentence_pairs", "infilling",
        "every_modality",
    )  # fmt: skip
    if source_length is not None and name.split(".")[0] in only_decoders:
        with pytest.raises(DataError, match=r"gives an encoder nothing|without an encoder"):
            mixture.open(batch_size=4, length=192, seed=0, source_length=source_length)
        return
    length = LONG.get(name, 192)
    if source_length is not None:
        source_length = LONG.get(name, source_length)
    data = mixture.open(batch_size=16, length=length, seed=0, source_length=source_length)
    batch = data.batch(3)
    assert batch.tokens.shape == batch.targets.shape == (16, length)
    assert (batch.encoder is None) == (source_length is None)
    assert batch.tokens.max() < mixture.codec.vocab_size and (batch.loss_weights.sum(1) > 0).all()
