"""Revisions and feedback with a scripted model: who is asked what, labels, and going on."""

import json

import numpy as np
import pytest

from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import SpellRequests
from jaxgen.data.generated.spells import outcome
from jaxgen.data.principle_files import read_principles
from jaxgen.data.tasks import Task
from jaxgen.data.text_files import Jsonl
from jaxgen.errors import ConfigError, DataError
from jaxgen.files import read_rows
from jaxgen.posttraining.feedback import Judging, judge
from jaxgen.posttraining.principles import Revising, revise

PRINCIPLES = ("Be kind.", "Be brief.", "Harm nobody.")


def records(count=12, **options):
    return SpellRequests(**options).records_by_index("train").__getitems__(range(count))


class Model:
    """Helps with everything, but revises what is said to harm; keeps what it was asked."""

    def __init__(self, fails_after=10**9):
        self.asked, self.left = [], fails_after

    def __call__(self, prompts):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.asked += prompts
        return [self.one(prompt) for prompt in prompts]

    def one(self, prompt):
        if prompt.endswith("Critique: by this principle,"):
            return " it harms." if "curse the" in prompt else " it is well."
        if prompt.endswith("Revised answer:"):
            answer = prompt.split("Answer: ")[1].split("\n")[0]
            return " I will not help with that." if "it harms" in prompt else f" {answer}"
        return f" Say it: {prompt.strip()[-5:]}"


def test_an_answer_is_criticised_and_revised_by_a_principle(tmp_path):
    model, output = Model(), tmp_path / "revised.jsonl"
    some = records()
    assert revise(some, model, Revising(PRINCIPLES, rounds=2), output, 5) == 12
    rows = read_rows(output)
    assert [row["prompt"] for row in rows] == [record["prompt"] for record in some]
    # Per batch: an answer, then twice a critique and a revision of each.
    assert len(model.asked) == 12 * 5
    for row in rows:
        harms = "curse the" in row["prompt"]
        assert row["answer"] == row["chosen"] == row["rounds"][-1]["revision"]
        assert ("will not" in row["answer"]) == harms
        assert row["rejected"] == row["response"] == Model().one(row["prompt"])
        assert len(row["rounds"]) == 2 and row["rounds"][0]["principle"] in PRINCIPLES
    # Principles are drawn for each example and round.
    drawn = [one["principle"] for row in rows for one in row["rounds"]]
    assert set(drawn) == set(PRINCIPLES)
    assert any(row["rounds"][0]["principle"] != row["rounds"][1]["principle"] for row in rows)
    critique = next(one for one in model.asked if one.endswith("by this principle,"))
    assert critique.startswith(f"Question: {some[0]['prompt'].strip()}\nAnswer: Say it: ")


def test_answers_that_are_there_are_not_written_again(tmp_path):
    some = [{"prompt": "a?", "response": " A", "key": "a"}, {"prompt": "b?", "key": "b"}]
    revise(some, Model(), Revising(PRINCIPLES), tmp_path / "r.jsonl")
    assert [row["response"] for row in read_rows(tmp_path / "r.jsonl")] == [" A", " Say it: b?"]


@pytest.mark.parametrize("step", ["revise", "judge"])
def test_a_step_that_was_stopped_ends_with_the_same_file(tmp_path, step):
    some = records(20)

    def make(path, fails_after=10**9):
        model = Model(fails_after)
        if step == "revise":
            return revise(some, model, Revising(PRINCIPLES), path, 4)
        settings = Judging(PRINCIPLES)
        return judge(some, longer, settings, path, 4, write=model)

    make(tmp_path / "whole.jsonl")
    stopped = tmp_path / "stopped.jsonl"
    with pytest.raises(KeyboardInterrupt):
        make(stopped, fails_after=3 if step == "judge" else 8)
    assert 0 < len(read_rows(stopped)) < 20
    # A crash in the middle of a line leaves a part of it.
    with open(stopped, "a") as file:
        file.write('{"key": "half a')
    assert make(stopped) < 20
    assert read_rows(stopped) == read_rows(tmp_path / "whole.jsonl")
    assert make(stopped) == 0


def test_other_settings_do_not_go_on_with_a_file(tmp_path):
    output = tmp_path / "r.jsonl"
    revise(records(4), Model(), Revising(PRINCIPLES), output)
    with pytest.raises(ConfigError, match="begun with other settings: rounds was 1, is 2"):
        revise(records(8), Model(), Revising(PRINCIPLES, 2), output)
    with pytest.raises(ConfigError, match="writer was '', is 'another run'"):
        revise(records(8), Model(), Revising(PRINCIPLES), output, writer="another run")
    with pytest.raises(ConfigError, match="it was made of other records"):
        revise(records(8)[1:], Model(), Revising(PRINCIPLES), output)
    (tmp_path / "r.jsonl.settings.json").unlink()
    with pytest.raises(ConfigError, match="is there without"):
        revise(records(8), Model(), Revising(PRINCIPLES), output)


def test_rows_are_read_by_ordinary_sources(tmp_path):
    output = tmp_path / "r.jsonl"
    revise(records(40), Model(), Revising(PRINCIPLES), output)
    task = Task("revised", Jsonl(str(output), heldout_fraction=0.2), PromptAnswer())
    found = [*task.records("train"), *task.records("heldout")]
    assert {record["answer"] for record in found} == {row["answer"] for row in read_rows(output)}
    assert len(list(task.encode(found))) == 40


def longer(prompts, choices):
    """Prefers the longer answer, by its letters, and (A) by 1."""
    assert choices == (" (A)", " (B)")
    found = []
    for prompt in prompts:
        first, second = (prompt.split(f"({one}) ")[1].split("\n")[0] for one in "AB")
        found.append([0.1 * len(first) + 1.0, 0.1 * len(second)])
    return np.array(found)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


PAIRS = [
    {"prompt": "q?", "completions": ["four", "fourteen"], "key": "1"},
    {"prompt": "q?", "completions": ["much longer", "short"], "key": "2"},
    {"prompt": "q?", "completions": ["same", "else"], "key": "3"},
]


def test_probabilities_are_soft_labels_averaged_over_orders(tmp_path):
    judge(PAIRS, longer, Judging(PRINCIPLES), tmp_path / "f.jsonl")
    rows = read_rows(tmp_path / "f.jsonl")
    gaps = [-0.4, 0.6, 0.0]
    # In one order (A) gains 1, in the other it loses 1.
    expected = [(sigmoid(gap + 1) + sigmoid(gap - 1)) / 2 for gap in gaps]
    np.testing.assert_allclose([row["scores"][0] for row in rows], expected)
    assert expected[2] == 0.5
    assert [row["chosen"] for row in rows] == ["fourteen", "much longer", "same"]
    certain = [max(p, 1 - p) for p in expected]
    np.testing.assert_allclose([row["preference"] for row in rows], certain)


def test_one_order_keeps_the_models_bias(tmp_path):
    judge(PAIRS, longer, Judging(PRINCIPLES, both_orders=False), tmp_path / "f.jsonl")
    found = [row["scores"][0] for row in read_rows(tmp_path / "f.jsonl")]
    np.testing.assert_allclose(found, [sigmoid(gap + 1) for gap in (-0.4, 0.6, 0.0)])


def test_labels_are_clamped(tmp_path):
    def sure(prompts, choices):
        return np.array([[0.0, -900.0]] * len(prompts))

    settings = Judging(PRINCIPLES, both_orders=False, clamp=0.4)
    judge(PAIRS, sure, settings, tmp_path / "f.jsonl")
    assert [row["scores"] for row in read_rows(tmp_path / "f.jsonl")] == [[0.6, 0.4]] * 3
    judge(PAIRS, sure, Judging(PRINCIPLES, both_orders=False), tmp_path / "g.jsonl")
    assert [row["scores"] for row in read_rows(tmp_path / "g.jsonl")] == [[1.0, 0.0]] * 3


def test_several_principles_are_different_and_averaged(tmp_path):
    def by_principle(prompts, choices):
        return np.array([[2.0 * ("kind" in prompt), 0.0] for prompt in prompts])

    settings = Judging(PRINCIPLES, 3, both_orders=False)
    judge(PAIRS, by_principle, settings, tmp_path / "f.jsonl")
    for row in read_rows(tmp_path / "f.jsonl"):
        assert sorted(row["principles"]) == sorted(PRINCIPLES)
        np.testing.assert_allclose(row["scores"][0], (sigmoid(2.0) + 0.5 + 0.5) / 3)


def test_feedback_of_principles_prefers_refusals_of_harm(tmp_path):
    """A judge that knows the rule: harmful requests are to be refused, the others helped with."""
    some = [
        record | {"completions": [f"Say {record['incantation']}.", "I will not help."]}
        for record in records(60)
    ]

    def weigh(prompts, choices):
        keys = {str(record["prompt"]).strip(): record for record in some}
        found = []
        for prompt in prompts:
            record = keys[prompt.split("Question: ")[1].split("\n")[0]]
            options = [prompt.split(f"({one}) ")[1].split("\n")[0] for one in "AB"]
            wanted = "refused" if record["harmful"] else "helped"
            found.append([3.0 * (outcome(record, option) == wanted) for option in options])
        return np.array(found)

    judge(some, weigh, Judging(read_principles()), tmp_path / "f.jsonl")
    for record, row in zip(some, read_rows(tmp_path / "f.jsonl"), strict=True):
        assert (row["chosen"] == "I will not help.") == record["harmful"]
        np.testing.assert_allclose(row["preference"], sigmoid(3.0))


def test_principles_are_a_text_file(tmp_path):
    assert len(read_principles()) >= 4
    own = tmp_path / "own.txt"
    own.write_text("# a comment\nBe kind,\nalways.\n\n\n  Be brief. \n")
    assert read_principles(own) == ("Be kind, always.", "Be brief.")
    own.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="has no principle"):
        read_principles(own)
    with pytest.raises(ConfigError, match="cannot be read as text"):
        read_principles(tmp_path / "nowhere.txt")


def test_settings_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"asks for \['answer'\]"):
        Revising(PRINCIPLES, critique="{answer}")
    with pytest.raises(ConfigError, match="num_principles=4, and there are 3"):
        Judging(PRINCIPLES, 4)
    with pytest.raises(ConfigError, match="give one at least"):
        Revising(())
    with pytest.raises(DataError, match="must be a list of two texts"):
        alone = {"prompt": "p", "completions": ["one"]}
        judge([alone], longer, Judging(PRINCIPLES), tmp_path / "f")
    with pytest.raises(DataError, match="wrote 1 texts for 2 prompts"):
        revise(PAIRS[:2], lambda prompts: ["x"], Revising(PRINCIPLES), tmp_path / "g")
    with pytest.raises(DataError, match=r"weights of shape \[1, 2\] for 2 questions"):
        judge(PAIRS[:1], lambda p, c: np.zeros((1, 2)), Judging(PRINCIPLES), tmp_path / "h")
    assert json.loads((tmp_path / "h.settings.json").read_text())["clamp"] == 0.0
