"""Frozen parts of a model stay as they are, and averages of the others follow them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.helpers import one_device_mesh, tiny_dense
from support.tiny_sweep import base

from jaxgen.cli import main
from jaxgen.errors import ConfigError
from jaxgen.models.base import ParameterCount
from jaxgen.models.parameters import Frozen, freeze, make_parameter, named_parameters
from jaxgen.objectives.base import Loss, Sum
from jaxgen.ops.initializers import normal
from jaxgen.runs.checkpoints import Checkpoints, flatten
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.program import build_program
from jaxgen.training.schedules import WarmupCosine


class Matrix(nnx.Module):
    def __init__(self, rngs, width):
        self.kernel = make_parameter(rngs, (8, width), ("embed", "mlp"), normal(1.0))


class Probe(nnx.Module):
    """A trained matrix on top of frozen features."""

    def __init__(self, rngs, layout):
        self.layout = layout
        with using(layout):
            self.features = freeze(Matrix(rngs, 8))
            self.head = Matrix(rngs, 8)


@dataclasses.dataclass(frozen=True)
class ProbeConfig:
    def build(self, rngs, layout):
        return Probe(rngs, layout)

    def count(self):
        return ParameterCount(total=128, active=128)

    def flops(self, length, source_length=None):
        return 6 * 64

    def batch_spec(self, *, batch_size, length, source_length=None):
        return {"x": jax.ShapeDtypeStruct((batch_size, 8), jnp.float32)}


def regression(model, batch, key):
    """The head is to undo the features."""
    rows = jax.P(Rules().batch)
    features, head = model.features.kernel[...], model.head.kernel[...]
    hidden = jnp.einsum("be,em->bm", batch["x"], features, out_sharding=rows)
    out = jnp.einsum("be,em->bm", hidden, head, out_sharding=rows)
    error = jnp.sum(jnp.square(out - batch["x"]))
    rows = jnp.float32(batch["x"].shape[0])
    return Loss(error, rows, {"error": Sum(error, rows)})


@pytest.mark.parametrize("sizes", [{"data": 1}, {"data": 2, "fsdp": 1, "tensor": 2}])
def test_a_frozen_part_is_in_the_checkpoint_and_in_no_moment_or_average(sizes, tmp_path):
    mesh = make_mesh(MeshConfig(**sizes), jax.devices()[: np.prod(list(sizes.values()))])
    train = TrainConfig(
        steps=40, batch_size=8, length=8, ema_decay=0.9,
        optimizer=AdamW(weight_decay=0.5), schedule=WarmupCosine(peak=0.03, warmup=0),
    )  # fmt: skip
    program = build_program(ProbeConfig(), train, mesh, objective=regression)
    batch = {"x": np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)}
    with jax.set_mesh(mesh):
        state, step, losses, heads = program.fresh_state(), program.train_step(), [], []
        names = dict(named_parameters(state.model))
        assert isinstance(names["features.kernel"], Frozen)
        assert (
            names["features.kernel"].get_value().sharding.spec
            == names["head.kernel"].get_value().sharding.spec
        )
        before = np.asarray(state.model.features.kernel[...])
        for _ in range(40):
            heads.append(np.asarray(state.model.head.kernel[...], np.float64))
            state, metrics = step(state, put_batch(batch, mesh, program.layout.rules))
            losses.append(float(metrics.objective))
        heads.append(np.asarray(state.model.head.kernel[...], np.float64))
        assert losses[-1] < 0.5 * losses[0]
        # Decay alone would have moved it.
        np.testing.assert_array_equal(state.model.features.kernel[...], before)
        others = [name for name in flatten(state) if name.endswith("features.kernel")]
        assert others == ["model.features.kernel"]
        # The averages by their definition.
        mean = heads[0]
        for t, head in enumerate(heads[1:]):
            kept = min(0.9, (1 + t) / (10 + t))
            mean = kept * mean + (1 - kept) * head
        np.testing.assert_allclose(state.ema.head.kernel[...], mean, rtol=1e-4, atol=1e-6)
        averaged = state.averaged_model
        np.testing.assert_array_equal(averaged.head.kernel[...], state.ema.head.kernel[...])
        np.testing.assert_array_equal(averaged.features.kernel[...], before)
        with Checkpoints(tmp_path / "checkpoints") as checkpoints:
            checkpoints.save(40, state, {"step": 40})
            checkpoints.wait()
            restored, _ = checkpoints.restore(program.abstract_state())
    assert isinstance(restored.model.features.kernel, Frozen)
    for one, other in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_averages_are_evaluated_and_restored_on_request(tmp_path, capsys):
    config = base("train.ema_decay=0.99", "evaluation.ema=True")
    one = jax.devices()[:1]
    execution = ExecutionConfig(MeshConfig(data=1), trackers=())
    averaged = run(config, tmp_path / "averaged", execution, one, False).record["evaluation"]
    last = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, ema=False))
    ended = run(last, tmp_path / "last", execution, one, False).record["evaluation"]
    assert averaged["prose"]["loss"] != ended["prose"]["loss"]
    mesh = one_device_mesh()
    with jax.set_mesh(mesh):
        models = {
            ema: flatten(restore(tmp_path / "last", mesh, ema=ema).model) for ema in (False, True)
        }
    assert models[True].keys() == models[False].keys()
    assert any(np.any(models[True][name] != models[False][name]) for name in models[True])
    # Read on all eight devices, which the run's own batch of two rows does not fit.
    eight = "--gin.evaluation.batch_size=8"
    assert main(["evaluate", f"--run_dir={tmp_path / 'last'}", "--ema"]) == 1
    assert "evaluation.batch_size = 4 is not divided by the mesh axes data=8" in (
        capsys.readouterr().err
    )
    assert main(["evaluate", f"--run_dir={tmp_path / 'last'}", "--ema", eight]) == 0
    printed = capsys.readouterr().out
    assert "00000004.ema.jsonl" in printed
    # A binding without a file changes one setting of the run's own evaluation.
    assert "(4 instances)" in printed


def test_averages_that_are_not_kept_are_not_found(tmp_path):
    with pytest.raises(ConfigError, match=r"evaluation\.ema=True .*set train\.ema_decay"):
        base("evaluation.ema=True")
    with pytest.raises(ConfigError, match=r"train\.ema_decay=1\.0 must be in \(0, 1\)"):
        TrainConfig(steps=1, ema_decay=1.0)
    mesh = one_device_mesh()
    program = build_program(tiny_dense(), TrainConfig(steps=1, length=32), mesh)
    with pytest.raises(ConfigError, match="keeps no averages"):
        _ = program.fresh_state().averaged_model
    assert Layout() == program.layout
