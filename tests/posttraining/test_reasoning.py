"""Puzzles of reasoning-gym with its scorers."""

import importlib.util
import os
import subprocess
import sys

import pytest

from jaxgen.data.features import PromptAnswer
from jaxgen.data.installed import reasoning
from jaxgen.data.installed.reasoning import ReasoningGym
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError
from jaxgen.posttraining.guarded import Guarded
from jaxgen.posttraining.reasoning import ReasoningGymScore
from jaxgen.posttraining.rewards import score


def test_without_the_package_there_is_a_cure(monkeypatch):
    monkeypatch.setattr(reasoning.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'jaxgen\[reasoning\]'"):
        ReasoningGym("basic_arithmetic").content_digest()


needed = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="reasoning-gym is not installed"
)


@needed
def test_questions_are_the_same_each_time_and_splits_apart():
    source = ReasoningGym("basic_arithmetic", {"max_terms": 3}, size=300)
    found = {split: list(source.read(split)) for split in ("train", "heldout")}
    assert list(source.read("train")) == found["train"]
    assert len(found["train"]) + len(found["heldout"]) == 300 and len(found["heldout"]) > 10
    keys = {split: {record["key"] for record in records} for split, records in found.items()}
    assert not keys["train"] & keys["heldout"]
    other = ReasoningGym("basic_arithmetic", {"max_terms": 4}, size=300)
    assert other.content_digest() != source.content_digest()
    task = Task("puzzles", source, PromptAnswer())
    assert all(len(example.ids) for example in task.encode(found["train"][:5]))


@needed
@pytest.mark.parametrize(
    "dataset", ["basic_arithmetic", "countdown", "leg_counting", "zebra_puzzles"]
)
def test_their_own_answers_are_right_and_others_are_not(dataset):
    records = list(ReasoningGym(dataset, size=12).read("train"))
    right = [f" {record['answer']}\n" for record in records]
    reward = ReasoningGymScore()
    assert score(reward, records, right).total.tolist() == [1.0] * len(records)
    assert score(reward, records, ["no idea"] * len(records)).total.max() < 0.2
    marked = ReasoningGymScore(after="answer:")
    texts = [f"so the answer: {record['answer']}" for record in records]
    assert score(marked, records, texts).total.tolist() == [1.0] * len(records)
    assert score(marked, records, right).total.tolist() == [0.0] * len(records)


@needed
def test_questions_do_not_depend_on_the_process():
    """This generator goes through sets of texts, whose order is another one in each process."""
    make = (
        "from jaxgen.data.installed.reasoning import ReasoningGym as R\n"
        "print([r['key'] for r in R('isomorphic_strings', size=5).read('train')])"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", make],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1] and len(found[0]) > 20


@needed
def test_a_puzzle_with_many_solutions_has_a_score_and_no_answer():
    """Countdown accepts any expression of its numbers with the target's value."""
    (record, *_) = ReasoningGym("countdown", size=12).read("train")
    numbers, target = record["entry"]["metadata"]["numbers"], record["entry"]["metadata"]["target"]
    assert record["answer"] != f"({record['answer']})"
    assert score(ReasoningGymScore(), [record], [f"({record['answer']})"]).total.item() == 1
    assert score(ReasoningGymScore(), [record], [str(target)]).total.item() < 1 and numbers
    (bare, *_) = ReasoningGym("propositional_logic", size=12).read("train")
    assert "answer" not in bare and bare["prompt"]


@needed
def test_scores_in_a_process_of_their_own():
    records = list(ReasoningGym("leg_counting", size=4).read("train"))
    right = [record["answer"] for record in records]
    found = score(Guarded(ReasoningGymScore()), records, right)
    assert found.total.tolist() == [1.0] * len(records)


@needed
def test_generators_and_settings_that_are_not_there_are_refused():
    with pytest.raises(ConfigError, match="'arithmetic' is no generator; use one of"):
        next(ReasoningGym("arithmetic").read("train"))
    with pytest.raises(ConfigError, match="basic_arithmetic refuses them"):
        next(ReasoningGym("basic_arithmetic", {"terms": 3}).read("train"))
