"""The same numbers on every mesh: losses, per-task sums and gradients."""

import functools

import jax
import numpy as np
import pytest
from helpers import (
    ALL_BIASES,
    MESHES,
    build,
    one_device_mesh,
    random_batch,
    tiny_dense,
    tiny_gpt2,
    tiny_moe,
)

from jaxgen.models.parameters import named_parameters
from jaxgen.objectives.next_token import next_token
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import put_batch

CONFIGS = {
    "dense": tiny_gpt2(
        biases=(*ALL_BIASES, "logits"), gated=True, logit_soft_cap=20.0, z_loss=1e-3,
        label_smoothing=0.1,
    ),
    "untied": tiny_dense(tie_embeddings=False, gated=False, remat="full"),
    "moe": tiny_moe(remat="dots"),
}  # fmt: skip


def loss_and_gradients(config, mesh):
    with jax.set_mesh(mesh):
        model = build(config)
        batch = put_batch(random_batch(), mesh, Rules())

        def objective(model):
            loss = next_token(model, batch, num_tasks=2)
            return loss.total / loss.weight, loss.per_task

        differentiate = jax.jit(jax.value_and_grad(objective, has_aux=True))
        (loss, per_task), gradients = differentiate(model)
    named = {name: np.asarray(p[...]) for name, p in named_parameters(gradients)}
    return float(loss), np.asarray(per_task), named


@functools.cache
def on_one_device(name):
    return loss_and_gradients(CONFIGS[name], one_device_mesh())


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_do_not_depend_on_the_mesh(name, mesh):
    loss, per_task, gradients = loss_and_gradients(CONFIGS[name], make_mesh(MESHES[mesh]))
    expected_loss, expected_per_task, expected_gradients = on_one_device(name)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    np.testing.assert_allclose(per_task, expected_per_task, rtol=1e-5)
    for parameter, gradient in gradients.items():
        # A key's bias shifts all scores of a query alike: its gradient is rounding alone.
        np.testing.assert_allclose(
            gradient, expected_gradients[parameter], rtol=1e-3, atol=1e-6, err_msg=parameter
        )
