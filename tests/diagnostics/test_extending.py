"""A run made longer is, bit for bit, the run that was as long from the beginning."""

import dataclasses

import jax
import numpy as np
import pytest
from diagnostics.test_cooldown import BASE

from jaxgen.diagnostics.extending import extend
from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.runs.run import restore, run
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine, WarmupStableDecay


def with_train(**changes):
    return dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, **changes))


def test_the_longer_run_is_as_if_it_had_never_been_shorter(tmp_path):
    devices = jax.devices()[:1]
    execution = ExecutionConfig(checkpoint_every=2, keep_checkpoints=9, trackers=())
    decaying = WarmupStableDecay(peak=0.01, warmup="2 steps", decay="50%")
    run(with_train(steps=8, schedule=decaying), tmp_path / "short", execution, devices, False)
    config, step = extend(tmp_path / "short", tmp_path / "longer", 12)
    assert step == 4  # The decay of the short one began then.
    assert config.train.steps == 12
    assert config.train.schedule == dataclasses.replace(decaying, warmup=2, decay=6)
    run(config, tmp_path / "longer", execution, devices, False)
    run(config, tmp_path / "alone", execution, devices, False)
    mesh = make_mesh(MeshConfig(data=1), devices)
    with jax.set_mesh(mesh):
        ends = [restore(tmp_path / name, mesh).model for name in ("longer", "alone")]
    for one, other in zip(*(jax.tree.leaves(end) for end in ends), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ConfigError, match="no longer"):
        extend(tmp_path / "short", tmp_path / "x", 8)


def test_what_cannot_be_made_longer_is_refused(tmp_path):
    devices = jax.devices()[:1]
    execution = ExecutionConfig(checkpoint_every=8, keep_checkpoints=1, trackers=())
    decaying = WarmupStableDecay(peak=0.01, warmup="2 steps", decay="50%")
    for name, schedule in (("late", decaying), ("cosine", WarmupCosine())):
        run(with_train(steps=8, schedule=schedule), tmp_path / name, execution, devices, False)
    with pytest.raises(CheckpointError, match=r"decays from step 4 on.*\[8\] only"):
        extend(tmp_path / "late", tmp_path / "x", 20)
    with pytest.raises(ConfigError, match="WarmupCosine has no warmup and decay"):
        extend(tmp_path / "cosine", tmp_path / "x", 20)
