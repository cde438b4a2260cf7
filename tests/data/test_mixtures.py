"""The batch of a step depends on mixture, seed and step alone."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxgen.codecs.bpe import train_bpe
from jaxgen.data.generated import Addition, Copying
from jaxgen.data.mixtures import Mixture
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import PromptAnswer, Task
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
        batches = data.iterate([(start * 8, 8, None)])
        for step in range(start, start + 3):
            assert same(next(batches), opened().batch_at(step))
    assert not same(data.batch_at(0), data.batch_at(1))
    assert not same(data.batch_at(0), opened(seed=1).batch_at(0))


def test_hosts_rows_are_the_global_batch():
    data = opened()
    whole = data.batch_at(5)
    parts = [data.batch_at(5, rows=slice(start, start + 2)) for start in range(0, 8, 2)]
    joined = np.concatenate([part.tokens for part in parts])
    assert np.array_equal(joined, whole.tokens)


def test_a_batch_size_changes_how_rows_are_grouped_and_not_which_come():
    large, small = opened(batch_size=8), opened(batch_size=4)
    rows = np.concatenate([small.batch_at(step).tokens for step in (2, 3)])
    assert np.array_equal(large.batch_at(1).tokens, rows)


def test_the_order_of_writing_tasks_means_nothing():
    turned = Mixture("m", TASKS[::-1], WEIGHTS).open(batch_size=8, length=64, seed=0)
    assert turned.task_names == ("addition", "copying", "text")
    assert same(turned.batch_at(7), opened().batch_at(7))


@pytest.mark.parametrize("small", [0.2, 1e-3])
def test_shares_are_exact_at_every_prefix(small):
    weights = {"addition": 1 - small, "copying": small}
    data = Mixture("m", TASKS[1:], weights).open(batch_size=100, length=16, seed=0)
    seen = np.concatenate([data.batch_at(step).task_ids[:, 0] for step in range(40)])
    counts = np.cumsum(seen == 1)
    expected = small * np.arange(1, len(seen) + 1)
    assert np.abs(counts - expected).max() <= 1.0 + 1e-9


def test_temperature_flattens():
    mixture = Mixture("m", TASKS[1:], {"addition": 0.8, "copying": 0.2}, temperature=2.0)
    assert np.isclose(mixture.shares({})["addition"], 0.8**0.5 / (0.8**0.5 + 0.2**0.5))
    assert Mixture("m", TASKS[1:]).shares({"addition": 30, "copying": 10})["addition"] == 0.75


def test_a_fresh_process_makes_the_same_batch():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_mixtures as t;"
        "print(t.opened().batch_at(11).tokens.tobytes().hex())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    found = subprocess.run(
        [sys.executable, "-c", code, os.path.dirname(__file__)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == opened().batch_at(11).tokens.tobytes().hex()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": ()}, ["no task"]),
        ({"tasks": (TASKS[0], TASKS[0])}, ["['text'] twice"]),
        ({"weights": {"text": 1.0}}, ["addition", "copying"]),
        ({"weights": WEIGHTS | {"text": 0.0}}, ["0.0", "text", "leave the task out"]),
        ({"weights": WEIGHTS | {"text": float("nan")}}, ["nan", "text"]),
        ({"weights": WEIGHTS | {"text": -1.0}}, ["-1.0"]),
        ({"temperature": 0.0}, ["temperature"]),
    ],
)
def test_mixtures_that_mean_nothing_are_refused(changes, words):
    settings = {"name": "m", "tasks": TASKS, "weights": WEIGHTS} | changes
    with pytest.raises(DataError) as error:
        Mixture(**settings)
    for word in words:
        assert word in str(error.value)


def test_differing_codecs_are_refused(tmp_path):
    codec = train_bpe(["abc"], 300, tmp_path / "tokenizer.json")
    other = dataclasses.replace(TASKS[1], codec=codec)
    with pytest.raises(DataError, match="one codec"):
        Mixture("m", (TASKS[0], other))
