"""Rewards by another run: those of its own comparisons, for texts."""

import dataclasses

import jax
import numpy as np
import pytest
from support.helpers import one_device_mesh
from support.rollouts import BINDINGS, one_device, rewarded, with_rollouts

from jaxgen.configuration import load
from jaxgen.errors import ConfigError
from jaxgen.objectives.reward import completion_rewards
from jaxgen.runs.restoring import restore
from jaxgen.runs.reward_models import RunReward
from jaxgen.runs.run import run
from jaxgen.runs.warm_start import runs_needed
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch

JUDGE = [
    *BINDINGS[:8], "train.length=64", "run.model=@policy()", "policy.model=@model()",
    "policy.head=True", "run.objective=@reward_loss()", "run.mixture=@comparisons()",
    "comparisons.tasks=[@gold_preferences/task()]", "evaluation.num_batches=1",
    "evaluation.batch_size=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "judge"
    config = load(["base.gin", "tasks/gold_preferences.gin"], JUDGE)
    run(config, folder, devices=one_device(), show_progress=False)
    return folder


@pytest.mark.slow
def test_texts_are_scored_as_the_runs_own_comparisons_are(judge):
    mesh, reward = one_device_mesh(), RunReward(str(judge), batch_size=4, offset=0.5)
    with jax.set_mesh(mesh):
        restored = restore(judge, mesh)
        data = restored.config.mixture.open(batch_size=4, length=64, seed=0)
        batch = data.batch(0)
        placed = put_batch(batch, mesh, restored.model.layout.rules)
        expected, _ = jax.jit(completion_rewards)(restored.model, placed)
        records, texts = [], []
        codec = restored.config.mixture.codec
        masks = batch.completion_weights.reshape(8, -1)
        for row, mask in zip(batch.tokens.reshape(8, -1), masks, strict=True):
            first, last = np.flatnonzero(mask)[[0, -1]]
            records.append({"prompt": codec.decode(row[1 : first + 1])})
            texts.append(codec.decode(row[first + 1 : last + 1]))
        found = reward([*records, records[0]], [*texts, " "])
    np.testing.assert_allclose(found[:-1], np.asarray(expected).reshape(-1) - 0.5, atol=1e-5)
    assert np.isnan(found[-1])


@pytest.mark.slow
def test_a_run_learns_from_it_and_needs_it_first(judge, tmp_path):
    config = load(
        ["base.gin", "tasks/gold_preferences.gin"],
        [*BINDINGS, "rollouts.tasks=[@gold_preferences/task()]", "rollouts.max_tokens=12"],
    )
    config = with_rollouts(config, reward=RunReward(str(judge)))
    told = run(config, tmp_path / "tuned", ExecutionConfig(log_every=1), one_device(), False)
    rows = told.directory.metrics_file.read_text()
    assert '"reward":' in rows
    assert [one.path for one in runs_needed(config, told.directory)] == [judge]


@pytest.mark.slow
def test_another_run_is_refused(judge, tmp_path):
    bare = dataclasses.replace(rewarded("train.steps=1"), name="bare")
    run(bare, tmp_path / "bare", devices=one_device(), show_progress=False)
    with jax.set_mesh(one_device_mesh()), pytest.raises(ConfigError, match="without a head"):
        RunReward(str(tmp_path / "bare"))([{"prompt": "x"}], ["y"])
