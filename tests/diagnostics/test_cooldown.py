"""A branch off a trunk's checkpoint is, bit for bit, the run that never branched."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxgen.configuration import load
from jaxgen.diagnostics.cooldown import branch, branch_off, keep_branching_points, trunk
from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import read_metrics
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine, WarmupStableDecay

BASE = load(
    ["runs/quickstart.gin"],
    [
        "model.num_layers=1", "model.embed_dim=8", "model.num_heads=1", "model.mlp_dim=8",
        "train.steps=100", "train.batch_size=2", "train.length=64",
        "evaluation.num_examples=2", "evaluation.num_batches=1", "evaluation.batch_size=2",
        "mixture.tasks=[@addition/task()]", "mixture.weights={'addition': 1.0}",
    ],
)  # fmt: skip
BASE = dataclasses.replace(
    BASE,
    train=dataclasses.replace(BASE.train, schedule=WarmupStableDecay(peak=0.01, warmup="2 steps")),
)


@pytest.mark.slow
def test_branch_is_the_run_that_never_branched(tmp_path):
    devices = jax.devices()[:1]
    long = trunk(BASE, [5, 10], decay=0.4)
    assert long.train.steps == 6
    config, longest = (branch(long, total, decay=0.4) for total in (5, 10))
    execution = ExecutionConfig(log_every=1)
    kept = keep_branching_points(execution, [config, longest])
    assert kept.checkpoint_every == 3
    run(long, tmp_path / "trunk", kept, devices, show_progress=False)
    assert branch_off(tmp_path / "trunk", config, tmp_path / "branch") == 3
    run(config, tmp_path / "branch", execution, devices, show_progress=False)
    run(config, tmp_path / "alone", execution, devices, show_progress=False)
    mesh = make_mesh(MeshConfig(data=1), devices)
    with jax.set_mesh(mesh):
        ends = [restore(tmp_path / name, mesh).model for name in ("branch", "alone")]
    for one, other in zip(*(jax.tree.leaves(end) for end in ends), strict=True):
        np.testing.assert_array_equal(one, other)
    rows = read_metrics(tmp_path / "branch" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [4, 5]
    assert branch_off(tmp_path / "trunk", config, tmp_path / "branch") == 3  # Left as it is.
    with pytest.raises(CheckpointError, match="no checkpoint of step 4"):
        branch_off(tmp_path / "trunk", branch(long, 5, decay=0.2), tmp_path / "other")
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=9))
    with pytest.raises(CheckpointError, match="more than its length"):
        branch_off(tmp_path / "trunk", other, tmp_path / "other")


def test_rates_of_trunk_and_branch_agree_until_it_leaves():
    long = trunk(BASE, [20, 50])
    config = branch(long, 20)
    kept, left = (rates_of(c, total)[:17] for c, total in ((long, 40), (config, 20)))
    assert kept == left
    end = rates_of(config, 20)
    assert end[18] == pytest.approx(0.005) and end[20] == 0


def rates_of(config, total):
    schedule = config.train.schedule.build(total, int)
    return np.asarray([schedule(step) for step in range(total + 1)]).tolist()


def test_what_cannot_branch_is_refused():
    cosine = dataclasses.replace(
        BASE, train=dataclasses.replace(BASE.train, schedule=WarmupCosine())
    )
    with pytest.raises(ConfigError, match="WarmupCosine"):
        trunk(cosine, [10])
    with pytest.raises(ConfigError, match="before the warm-up"):
        trunk(BASE, [2, 50])
    with pytest.raises(ConfigError, match=r"decay=1\.5"):
        branch(BASE, 10, decay=1.5)
