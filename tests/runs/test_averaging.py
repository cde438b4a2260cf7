"""The mean of a run's last checkpoints, as the original Transformer is scored."""

import dataclasses

import jax
import numpy as np
import pytest
from diagnostics.test_cooldown import BASE

from jaxgen.cli import main
from jaxgen.errors import CheckpointError
from jaxgen.runs.checkpoints import flatten
from jaxgen.runs.run import restore, run
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.execution import ExecutionConfig


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaging") / "run"
    config = dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, steps=5, ema_decay=0.5))
    execution = ExecutionConfig(
        MeshConfig(data=1), checkpoint_every=1, keep_checkpoints=4, trackers=()
    )
    run(config, folder, execution, jax.devices()[:1], False)
    return folder


def parameters(run_dir, step, **options):
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        restored = restore(run_dir, mesh, step, **options)
    return restored.step, {name: np.asarray(x) for name, x in flatten(restored.model).items()}


@pytest.mark.parametrize(("step", "averaged"), [(None, (5, 4, 3)), (4, (4, 3)), (3, (3,))])
@pytest.mark.parametrize("ema", [False, True])
def test_it_is_the_plain_mean_of_the_parameters(run_dir, step, averaged, ema):
    at, found = parameters(run_dir, step, ema=ema, average=len(averaged))
    assert at == averaged[0]
    each = [parameters(run_dir, one, ema=ema)[1] for one in averaged]
    for name, mean in found.items():
        expected = np.mean([one[name] for one in each], axis=0, dtype=np.float64)
        np.testing.assert_allclose(mean, expected, rtol=1e-6, atol=1e-8)
    assert len(averaged) == 1 or any(np.any(found[name] != each[0][name]) for name in found)


def test_too_few_checkpoints_are_named(run_dir):
    with pytest.raises(CheckpointError, match=r"4 checkpoints up to step 5.*keep_checkpoints=9"):
        parameters(run_dir, None, average=9)


def test_the_command_writes_its_rows_beside_the_runs_own(run_dir):
    eight = "--gin.evaluation.batch_size=8"
    assert main(["evaluate", f"--run_dir={run_dir}", "--average=3", eight]) == 0
    assert (run_dir / "evals" / "00000005.average3.jsonl").exists()
