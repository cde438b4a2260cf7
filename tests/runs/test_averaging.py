"""The mean of a run's last checkpoints, as the original Transformer is scored."""

import dataclasses

import jax
import numpy as np
import pytest
from diagnostics.test_cooldown import BASE
from support.helpers import one_device_mesh

from jaxgen.cli import main
from jaxgen.configuration import to_gin
from jaxgen.errors import CheckpointError
from jaxgen.runs.checkpoints import Checkpoints, flatten
from jaxgen.runs.restoring import restore
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.training.metrics import WindowSums
from jaxgen.training.program import build_program


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run's directory with the checkpoints of four steps, whose parameters are random."""
    directory = RunDirectory(tmp_path_factory.mktemp("averaging") / "run")
    config = dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, ema_decay=0.5))
    mesh = one_device_mesh()
    program = build_program(config.model, config.train, mesh)
    directory.prepare()
    directory.config_file.write_text(to_gin(config))
    with jax.set_mesh(mesh), Checkpoints(directory.checkpoints, keep=4) as checkpoints:
        empty = program.abstract_state()
        for step in (2, 3, 4, 5):
            random = np.random.default_rng(step)

            def draw(leaf, random=random):
                value = random.normal(size=leaf.shape).astype(leaf.dtype)
                return jax.device_put(value, leaf.sharding)

            record = {"step": step, "window": WindowSums().to_record()}
            checkpoints.save(step, jax.tree.map(draw, empty), record)
    return directory.path


def parameters(run_dir, step, **options):
    mesh = one_device_mesh()
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
        np.testing.assert_allclose(mean, expected, rtol=1e-6, atol=1e-6)
    assert len(averaged) == 1 or any(np.any(found[name] != each[0][name]) for name in found)


def test_too_few_checkpoints_are_named(run_dir):
    with pytest.raises(CheckpointError, match=r"4 checkpoints up to step 5.*keep_checkpoints=9"):
        parameters(run_dir, None, average=9)


@pytest.mark.slow
def test_the_command_writes_its_rows_beside_the_runs_own(run_dir):
    eight = "--gin.evaluation.batch_size=8"
    assert main(["evaluate", f"--run_dir={run_dir}", "--average=3", eight]) == 0
    assert (run_dir / "evals" / "00000005.average3.jsonl").exists()
