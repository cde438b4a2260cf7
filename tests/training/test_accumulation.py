"""The memory of a step that works through its batch in microbatches."""

import dataclasses

import jax
import numpy as np
import pytest
from support.helpers import MESHES, one_device_mesh, random_batch, tiny_dense, tiny_moe

from jaxgen.batch import token_batch_spec
from jaxgen.planning.compiling import compile_train_step
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import abstract_batch, put_batch
from jaxgen.training.program import build_program


def temporaries(model, mesh, accumulation, **execution):
    """Bytes that are there only while a step of `accumulation` microbatches of 8 rows runs."""
    train = TrainConfig(steps=1, batch_size=8 * accumulation, length=32)
    execution = ExecutionConfig(accumulation=accumulation, **execution)
    program = build_program(model, train, mesh, execution)
    spec = token_batch_spec(8 * accumulation, 32)
    batch = abstract_batch(spec, mesh, Rules(), accumulation)
    return compile_train_step(program, batch, accumulation).temporaries


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["one", "mixed"])
def test_microbatches_share_one_gradient(mesh):
    """An accumulator beside a microbatch's gradient would be a whole gradient more."""
    mesh = one_device_mesh() if mesh == "one" else make_mesh(MESHES[mesh])
    model = tiny_dense(num_layers=8, embed_dim=128, mlp_dim=256)
    parts = {axis: size for axis, size in mesh.shape.items() if axis in ("fsdp", "tensor")}
    gradient = 4 * model.count().total / np.prod(list(parts.values()))
    one, several = (temporaries(model, mesh, n, remat="full") for n in (1, 4))
    assert one > gradient
    assert several < one + 0.4 * gradient
    # The noise scale compares gradients, so there must be two.
    apart = temporaries(model, mesh, 4, remat="full", noise_scale=True)
    assert one + 0.9 * gradient < apart


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "mesh"),
    [("moe", "mixed"), ("dense", "stage"), ("dense", "sequence"), ("moe", "tensor")],
)
def test_gradients_in_place_are_those_of_gradients_apart(kind, mesh):
    model = tiny_dense() if kind == "dense" else tiny_moe()
    mesh = make_mesh(MESHES[mesh])
    found = []
    for noise_scale in (False, True):
        execution = ExecutionConfig(accumulation=2, noise_scale=noise_scale)
        program = build_program(model, TrainConfig(10, 8, length=32), mesh, execution)
        with jax.set_mesh(mesh):
            batch = put_batch(random_batch(), mesh, Rules(), 2)
            state, metrics = program.train_step(2)(program.fresh_state(), batch)
        assert (metrics.noise is None) == (not noise_scale)
        parameters = jax.device_get(jax.tree.leaves(state.model))
        found.append((*parameters, *jax.tree.leaves(dataclasses.replace(metrics, noise=None))))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
