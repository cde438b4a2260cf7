"""Preferences that a model agrees with: how often, how surely, and beside shares of raters."""

import dataclasses
import json
from typing import Any, ClassVar

import jax
import numpy as np
import pytest
from support.groups import build_policy
from support.helpers import one_device_mesh, tiny_dense

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.configuration import load
from jaxgen.data.comparison_fields import PreferencePairs, RankedCompletions, ScoredSteps
from jaxgen.data.comparisons import Comparisons
from jaxgen.data.generated.preferences import GoldPreferences
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError
from jaxgen.evaluation.base import EvaluationContext
from jaxgen.evaluation.metrics import calibration_error, calibration_interval, reliability
from jaxgen.evaluation.preferences import PreferenceAccuracy, StepAccuracy
from jaxgen.evaluation.summary import summarise
from jaxgen.models.policy_config import PolicyConfig
from jaxgen.objectives.next_token import NextToken
from jaxgen.objectives.preference import Figures, Preference
from jaxgen.objectives.reward import ProcessRewards, RewardModeling

CONFIG = tiny_dense(vocab_size=ByteCodec().vocab_size)


@dataclasses.dataclass(frozen=True)
class Known:
    """An objective whose rewards are the scores of the data, on a scale."""

    beta: float = 1.0
    unit: ClassVar[str] = "none"

    def figures(self, model, batch, key=None):
        return Figures(batch.scores, None, None, None)


def context(data, objective, batch_size=32):
    return EvaluationContext(data, objective, 0, batch_size, 64)


def evaluated(evaluator, data, objective, config=CONFIG):
    with jax.set_mesh(one_device_mesh()):
        model: Any = build_policy(PolicyConfig(config, head=True))
        return evaluator(model, context(data, objective))


def judged(count=300, scale=1.0):
    """Pairs whose first is the better by a known number, with that as the log-odds of the label."""
    differences = np.random.default_rng(0).normal(scale=2.0, size=count)
    records = [
        {"prompt": f"{n}:", "chosen": "a", "rejected": "b", "by": float(d),
         "agreed": float(1 / (1 + np.exp(-d * scale)))}
        for n, d in enumerate(differences)
    ]  # fmt: skip
    task = Task("t", InMemory(tuple(records), heldout_fraction=0.9))
    return Comparisons((task,), PreferencePairs(preference="agreed", margin="by"))


def test_rewards_that_are_the_labels_log_odds_are_calibrated():
    rows = evaluated(PreferenceAccuracy(1000), judged(), Known())
    names = ("accuracy", "margin", "confidence", "outcome", "cross_entropy", "divergence")
    summary = summarise(rows, names)
    assert summary["num_examples"] == len(rows) > 200
    assert summary["accuracy"] == 1.0 and summary["accuracy_interval"][0] > 0.97
    assert summary["calibration_error"] < 1e-6 and summary["divergence"] < 1e-6
    assert summary["chance"] == 0.5
    curve = summary["reliability"]
    assert sum(one["count"] for one in curve) == len(rows)
    assert all(abs(one["outcome"] - one["confidence"]) < 1e-6 for one in curve)


def test_rewards_on_the_wrong_scale_are_too_sure():
    rows = evaluated(PreferenceAccuracy(1000), judged(), Known(beta=4.0))
    summary = summarise(rows, ("accuracy", "divergence"))
    assert summary["accuracy"] == 1.0 and summary["divergence"] > 0.1
    low, high = summary["calibration_error_interval"]
    assert 0.05 < low < summary["calibration_error"] < high
    assert all(one["outcome"] < one["confidence"] for one in summary["reliability"])


def test_intervals_of_the_calibration_error_hold_it():
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.5, 1, 500)
    outcome = rng.random(500) < confidence**2
    low, high = calibration_interval(confidence, outcome)
    assert low < calibration_error(confidence, outcome) < high
    exact = calibration_error(np.linspace(0.5, 1, 10**5), np.linspace(0.5, 1, 10**5) ** 2)
    assert low < exact < high
    bins = reliability([0.55, 0.58, 0.93], [1.0, 0.0, 1.0])
    assert [one["count"] for one in bins] == [2, 1] and bins[0]["outcome"] == 0.5


def test_a_head_scores_every_two_of_several_that_differ():
    record = {"prompt": "p", "completions": ["a", "b", "c"], "scores": [1.0, 2.0, 2.0]}
    task = Task("t", InMemory((record,), heldout_fraction=1.0))
    data = Comparisons((task,), RankedCompletions())
    rows = evaluated(PreferenceAccuracy(), data, RewardModeling())
    assert [row["instance"] for row in rows] == ["0:0:1", "0:0:2"]
    margins = [row["margin"] for row in rows]
    assert [row["accuracy"] for row in rows] == [int(margin > 0) for margin in margins]


def test_tasks_have_their_own_accuracy_and_ties_favour_nobody():
    tasks = tuple(
        Task(name, InMemory(({"prompt": name, "chosen": "a", "rejected": "b", "m": m},),
                            heldout_fraction=1.0))
        for name, m in (("one", 1.0), ("two", 0.0))
    )  # fmt: skip
    rows = evaluated(PreferenceAccuracy(), Comparisons(tasks, PreferencePairs(margin="m")), Known())
    found = {name: row[name] for row in rows for name in row if name.startswith("accuracy/")}
    assert found == {"accuracy/one": 1, "accuracy/two": 0}
    tie = next(row for row in rows if row["margin"] == 0)
    assert tie["outcome"] == tie["confidence"] == 0.5


def test_generated_pairs_that_are_equal_are_counted_and_have_no_rows():
    source = GoldPreferences(temperature=1.0, max_words=1, heldout_fraction=0.3)
    data = Comparisons((Task("gold", source),), PreferencePairs(preference="preference"))
    opened = data.open(batch_size=256, length=64, seed=0, split="heldout")
    batch = opened.batch(0)
    empty = batch.lengths[:, 0] == 0
    assert 0 < empty.sum() == opened.left_out["gold"]["unusable"] < 60
    assert not batch.completion_weights[empty].any()


def test_by_its_log_probability_any_language_model_favours_one():
    rows = evaluated(PreferenceAccuracy(20, by="log_probability"), judged(40), NextToken())
    assert len(rows) == 20 and all(np.isfinite(row["margin"]) for row in rows)


def test_what_cannot_be_scored_is_told_before_training():
    with pytest.raises(ConfigError, match=r"set preference_accuracy\.by to 'reward'"):
        PreferenceAccuracy().check(context(judged(10), NextToken()))
    with pytest.raises(ConfigError, match=r"bind preference_accuracy\.data to @comparisons"):
        PreferenceAccuracy().check(context(Task("t", InMemory(())), Preference()))
    PreferenceAccuracy(data=judged(10)).check(context(Task("t", InMemory(())), Preference()))
    wrong: Any = "guess"
    with pytest.raises(ConfigError, match="'guess'"):
        PreferenceAccuracy(by=wrong)


def test_pairs_of_big_bench_are_read_from_their_files(tmp_path):
    example = {"input": "Is it 4?", "target_scores": {"Yes.": 0, "I am not sure.": 1}}
    task = {
        "name": "hhh", "append_choices_to_input": False,
        "examples": [example | {"input": f"{n}?"} for n in range(3)],
    }  # fmt: skip
    (tmp_path / "honest").mkdir()
    (tmp_path / "honest" / "task.json").write_text(json.dumps(task))
    found: Any = load(["suites/hhh.gin"], [f"HHH={str(tmp_path)!r}"], root="evaluation")
    (evaluator,) = found.evaluators
    rows = evaluated(evaluator, judged(4), RewardModeling())
    assert len(rows) == 3 and {row["confidence"] == row["outcome"] for row in rows} == {False}
    assert all(row["accuracy"] == int(row["margin"] > 0) for row in rows)


def test_steps_are_told_right_from_wrong_with_their_calibration():
    record = {"prompt": "p:", "completions": ["a", "b", "c"], "labels": [True, False, 0.75]}
    records = tuple(record | {"prompt": f"{n}:"} for n in range(5))
    task = Task("t", InMemory(records, heldout_fraction=1.0))
    data = Comparisons((task,), ScoredSteps())
    rows = evaluated(StepAccuracy(4), data, ProcessRewards())
    assert len(rows) == 4 * 3 and len({row["instance"] for row in rows}) == 12
    for row, label in zip(rows, [1.0, 0.0, 0.75] * 4, strict=True):
        assert 0.5 <= row["confidence"] < 1
        tells_right = row["accuracy"] == (label >= 0.5)
        assert row["outcome"] == (label if tells_right else 1 - label)
    summary = summarise(rows, ("accuracy",))
    assert len(summary["calibration_error_interval"]) == 2
    with pytest.raises(ConfigError, match="needs completions in steps"):
        StepAccuracy().check(context(judged(10), ProcessRewards()))
