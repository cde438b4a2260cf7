"""Log-probabilities of tokens: those of the whole logits, with their gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.groups import random_groups
from support.helpers import MESHES, build, one_device_mesh, random_batch, tiny_dense

from jaxgen.objectives import positions
from jaxgen.objectives.log_probabilities import group_log_probabilities, token_log_probabilities
from jaxgen.ops.filtering import Filter
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.loading import put_batch


def whole(model, batch, temperature=1.0):
    """Of the logits of all positions at once."""
    logits = model.logits(model(batch).hidden) / temperature
    return jax.nn.log_softmax(logits)


@pytest.mark.slow
@pytest.mark.parametrize("at_a_time", [8, 2048])
def test_they_are_those_of_the_whole_logits_and_so_is_the_gradient(at_a_time, monkeypatch):
    monkeypatch.setattr(positions, "POSITIONS_AT_A_TIME", at_a_time * 8)
    model, batch = build(tiny_dense(logit_soft_cap=3.0)), random_batch(length=20)
    pull = np.random.default_rng(1).normal(size=(2, 8, 20)).astype(np.float32)

    def ours(model):
        found = token_log_probabilities(model, batch.targets, model(batch))
        return jnp.sum(pull[0] * found.log_probability + pull[1] * found.entropy), found

    def theirs(model):
        logs = whole(model, batch)
        chosen = jnp.take_along_axis(logs, jnp.asarray(batch.targets)[..., None], axis=-1)[..., 0]
        entropy = -jnp.sum(jnp.exp(logs) * logs, axis=-1)
        return jnp.sum(pull[0] * chosen + pull[1] * entropy), (chosen, entropy)

    (_, found), gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(model)
    (_, told), expected = jax.jit(jax.value_and_grad(theirs, has_aux=True))(model)
    for one, other in zip(found, told, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), gradient, expected)


def test_what_is_drawn_from_is_renormalised_on_the_tokens_that_stay():
    model, batch = build(tiny_dense()), random_batch()
    by = Filter(temperature=0.7, top_k=5)
    found = token_log_probabilities(model, batch.targets, model(batch), by)
    logs = np.asarray(whole(model, batch, 0.7), np.float64)
    largest = -np.sort(-logs, axis=-1)[..., :5]
    chosen = np.take_along_axis(logs, batch.targets[..., None], axis=-1)[..., 0]
    stays = chosen >= largest[..., -1]
    kept = np.log(np.exp(largest).sum(-1))
    # A target that has left is kept beside those that stay.
    expected = np.where(stays, chosen - kept, chosen - np.logaddexp(kept, chosen))
    np.testing.assert_allclose(found.log_probability, expected, atol=1e-5)
    assert stays.any() and not stays.all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixed", "sequence"])
def test_groups_on_a_mesh_are_those_of_one_device(name):
    batch, config = random_groups(batch_size=8), tiny_dense()

    def found(mesh):
        with jax.set_mesh(mesh):
            model = build(config)
            placed = put_batch(batch, mesh, model.layout.rules)
            gradient = jax.jit(
                jax.grad(lambda m, b: jnp.sum(jnp.square(group_log_probabilities(m, b))))
            )
            logs = jax.jit(group_log_probabilities)(model, placed)
            return jax.tree.map(np.asarray, (logs, jax.tree.leaves(gradient(model, placed))))

    one, other = found(one_device_mesh()), found(make_mesh(MESHES[name]))
    assert one[0].shape == batch.shape
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4), one, other)
