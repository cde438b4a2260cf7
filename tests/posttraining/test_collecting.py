"""Completions as a file: the best of a group, and what the next run reads of it."""

import json
from typing import Any

import jax
import pytest
from support.helpers import build, one_device_mesh
from support.rollouts import TextReward, rewarded, with_rollouts

from jaxgen.data.features import PromptAnswer
from jaxgen.data.preprocessors import Keep
from jaxgen.data.tasks import Task
from jaxgen.data.text_files import Jsonl
from jaxgen.errors import ConfigError
from jaxgen.models.base import language_model
from jaxgen.posttraining.collecting import Collecting, collect


def collected(path, count=6, reward=len, at_least=None):
    config = with_rollouts(rewarded(), reward=TextReward(reward), group=3)
    rollouts: Any = config.mixture
    with jax.set_mesh(one_device_mesh()):
        model = build(language_model(config.model))
        settings = Collecting(at_least=at_least)
        made = collect(model, rollouts, 32, count, settings, path, 4, "model")
    return made, [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_row_has_the_best_and_the_worst_of_its_completions(tmp_path):
    made, rows = collected(tmp_path / "made.jsonl", at_least=5)
    assert made == len(rows) == 6
    for row in rows:
        lengths = [len(text) for text in row["completions"]]
        assert row["scores"] == lengths and "=" in row["prompt"]
        assert len(row["answer"]) == len(row["chosen"]) == max(lengths)
        assert len(row["rejected"]) == min(lengths)
        assert row["kept"] == ("yes" if max(lengths) >= 5 else "no")
    assert {row["kept"] for row in rows} == {"yes", "no"}
    kept = Task(
        "kept", Jsonl(str(tmp_path / "made.jsonl")), PromptAnswer(),
        preprocessors=(Keep(field="kept", pattern="yes"),),
    )  # fmt: skip
    read = list(kept.records("train"))  # Of so few, none is held out.
    assert {row["answer"] for row in read} == {r["answer"] for r in rows if r["kept"] == "yes"}


def test_it_goes_on_with_its_file_and_comes_to_the_same(tmp_path):
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    assert collected(whole, 8)[0] == 8
    assert collected(parts, 4)[0] == 4
    assert collected(parts, 8)[0] == 4
    assert parts.read_text() == whole.read_text()
    with pytest.raises(ConfigError, match="begun with other settings"):
        collected(parts, 8, at_least=1.0)


def test_what_has_no_score_is_not_kept(tmp_path):
    _, rows = collected(tmp_path / "made.jsonl", reward=lambda text: float("nan"))
    assert all(row["kept"] == "no" and row["scores"] == [None] * 3 for row in rows)
