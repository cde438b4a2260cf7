"""Optimisers against their papers' equations, matrix by matrix, and the same on any mesh."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support.helpers import MESHES, build, one_device_mesh, tiny_dense, tiny_moe

from jaxgen.errors import ConfigError
from jaxgen.models.parameters import named_parameters
from jaxgen.models.parametrization import Multipliers
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.optimizers.adafactor import Adafactor
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.optimizers.lion import Lion
from jaxgen.training.optimizers.matrices import is_decayed, sides_of
from jaxgen.training.optimizers.muon import Muon, newton_schulz

RATE = 0.02
STEPS = 3


def gradients_of(model, step):
    """Random ones that do not depend on the mesh, as a tree like the model."""
    leaves, tree = jax.tree.flatten(model)
    random = np.random.default_rng(step)
    drawn = [random.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    return jax.tree.unflatten(
        tree, [jax.device_put(x, leaf.sharding) for x, leaf in zip(drawn, leaves, strict=True)]
    )


def updates_on(optimizer, mesh):
    """{name: [updates of each step]}, the parameters before each, and the gradients."""
    with jax.set_mesh(mesh):
        model: Any = build(tiny_moe())
        transformation = optimizer.build(lambda count: RATE / (1 + count))
        state = jax.jit(transformation.init)(model)
        update = jax.jit(transformation.update)
        history = []
        for step in range(STEPS):
            gradients = gradients_of(model, step)
            updates, state = update(gradients, state, model)
            history.append((arrays(updates), arrays(model), arrays(gradients)))
            model = optax.apply_updates(model, updates)
    return history


def arrays(tree):
    return {name: np.asarray(p[...], np.float64) for name, p in named_parameters(tree)}


def numpy_adafactor(settings, sides, history, name):
    """Algorithms 4 and 5 of the paper on every matrix of a stack, with PaLM's two changes."""
    side, results = sides[name], []
    count = int(np.prod(side.stacked))
    rows: list[Any] = [0.0] * count
    columns, whole, momentum = list(rows), list(rows), list(rows)
    for step, (_, parameters, gradients) in enumerate(history, start=1):
        decay = min(1 - step**-settings.decay_exponent, settings.max_decay)
        rate = RATE / step
        stack = gradients[name].reshape(count, *side.sides)
        values = parameters[name].reshape(count, *side.sides)
        out = np.zeros_like(stack)
        for i, (g, x) in enumerate(zip(stack, values, strict=True)):
            square = g**2 + 1e-30
            factored = settings.factored and g.ndim == 2
            if factored and min(g.shape) >= settings.min_dim_factored:
                rows[i] = decay * rows[i] + (1 - decay) * square.sum(axis=1)
                columns[i] = decay * columns[i] + (1 - decay) * square.sum(axis=0)
                v = np.outer(rows[i], columns[i]) / rows[i].sum()
            else:
                whole[i] = decay * whole[i] + (1 - decay) * square
                v = whole[i]
            u = g / np.sqrt(v)
            u /= max(1.0, np.sqrt(np.mean(u**2)))
            u *= rate * max(1e-3, np.sqrt(np.mean(x**2)))
            if settings.beta1 is not None:
                momentum[i] = settings.beta1 * momentum[i] + (1 - settings.beta1) * u
                u = momentum[i]
            if settings.weight_decay and g.ndim == 2:
                u = u + rate**2 * x
            out[i] = -u
        results.append(out.reshape(gradients[name].shape))
    return results


ADAFACTORS = {
    "t5": Adafactor(min_dim_factored=16),
    "glam": Adafactor(min_dim_factored=16, max_decay=0.3),
    "palm": Adafactor(factored=False, beta1=0.9, weight_decay="learning_rate_squared"),
}


@pytest.mark.parametrize("variant", ADAFACTORS)
def test_adafactor_is_the_papers_on_every_matrix_of_a_stack(variant):
    settings = ADAFACTORS[variant]
    history = updates_on(settings, one_device_mesh())
    sides = {name: sides_of(p) for name, p in named_parameters(build(tiny_moe()))}
    assert any("experts" in name or len(side.stacked) == 2 for name, side in sides.items())
    for name in sides:
        expected = numpy_adafactor(settings, sides, history, name)
        for step in range(STEPS):
            np.testing.assert_allclose(
                history[step][0][name], expected[step], rtol=2e-4, atol=1e-7, err_msg=name
            )


def test_a_plain_matrix_is_updated_as_by_optax():
    parameter = nnx.Param(
        jax.random.normal(jax.random.key(0), (24, 40)), logical_axes=("embed", "mlp")
    )
    model = {"w": parameter}
    ours = Adafactor(min_dim_factored=16).build(lambda count: RATE)
    theirs = optax.adafactor(RATE, min_dim_size_to_factor=16)
    state, their_state = ours.init(model), theirs.init(parameter[...])
    for step in range(STEPS):
        gradient = jax.random.normal(jax.random.key(step + 1), (24, 40))
        update, state = ours.update({"w": parameter.replace(gradient)}, state, model)
        expected: Any
        expected, their_state = theirs.update(gradient, their_state, parameter[...])
        np.testing.assert_allclose(jax.tree.leaves(update)[0], expected, rtol=1e-4, atol=1e-8)


def test_muon_makes_every_matrix_of_a_stack_orthogonal():
    muon = Muon(weight_decay=0.0, beta=0.0)
    ((updates, _, gradients), *_) = updates_on(muon, one_device_mesh())
    for name, parameter in named_parameters(build(tiny_moe())):
        side = sides_of(parameter)
        if not side.is_matrix or side.is_table:
            # AdamW's first step is the gradient's sign.
            np.testing.assert_allclose(updates[name], -RATE * np.sign(gradients[name]), rtol=1e-3)
            continue
        stack = updates[name].reshape(-1, *side.sides)
        directions = gradients[name].reshape(-1, *side.sides)
        scale = RATE * 0.2 * max(side.sides) ** 0.5
        for update, gradient in zip(stack, directions, strict=True):
            u, before, v = np.linalg.svd(gradient, full_matrices=False)
            after = np.einsum("ik,ij,kj->k", u, -update / scale, v)
            # Five steps grow a value by 3.4445^5; those below 1 % of the norm stay behind.
            raised = after[before > 0.01 * np.linalg.norm(gradient)]
            assert len(raised) > 0.7 * len(after)
            assert raised.min() > 0.5 and raised.max() < 1.3
            # Moonlight's condition: as large as AdamW's usual update.
            assert 0.1 < np.sqrt(np.mean(update**2)) / RATE < 0.25


def test_the_iteration_is_that_of_optax():
    gradient = jax.random.normal(jax.random.key(0), (24, 40))
    theirs = optax.contrib.scale_by_muon(beta=0.0, nesterov=False)
    expected: Any = theirs.update(gradient, theirs.init(gradient))[0]
    np.testing.assert_allclose(newton_schulz(gradient[None], 5)[0], expected, atol=1e-4)


def test_lion_moves_by_the_sign_of_its_momentum():
    history = updates_on(Lion(weight_decay=0.5), one_device_mesh())
    decays = {name: is_decayed(p) for name, p in named_parameters(build(tiny_moe()))}
    for name, decay in decays.items():
        momentum = 0.0
        for step, (updates, parameters, gradients) in enumerate(history):
            direction = np.sign(0.9 * momentum + 0.1 * gradients[name])
            expected = -RATE / (1 + step) * (direction + 0.5 * decay * parameters[name])
            np.testing.assert_allclose(updates[name], expected, rtol=1e-4, atol=1e-8)
            momentum = 0.99 * momentum + 0.01 * gradients[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [AdamW(), Lion(), Muon(), *ADAFACTORS.values()], ids=lambda o: type(o).__name__
)
def test_updates_do_not_depend_on_the_mesh(optimizer):
    expected = updates_on(optimizer, one_device_mesh())
    got = updates_on(optimizer, make_mesh(MESHES["mixed"]))
    for (updates, *_), (others, *_) in zip(got, expected, strict=True):
        for name in updates:
            scale = np.abs(others[name]).max()
            np.testing.assert_allclose(updates[name] / scale, others[name] / scale, atol=1e-4)


def test_sides_are_read_off_logical_axes():
    model = jax.eval_shape(lambda: build(tiny_moe()))
    sides = {name: sides_of(p) for name, p in named_parameters(model)}
    block = "stack.groups.0.blocks.1."
    assert sides[block + "attention.query"].stacked == (2,)
    assert sides[block + "attention.query"].sides == (32, 32)
    assert sides[block + "attention.out"].sides == (32, 32)
    assert sides[block + "feed_forward.up"].stacked == (2, 8)
    assert sides[block + "attention_norm.scale"].sides == (32,)
    assert sides["embedding.table"].is_table and not sides[block + "attention.out"].is_table
    assert jnp.all(jnp.array([s.is_matrix for n, s in sides.items() if "norm" not in n]))


@pytest.mark.slow
def test_adamw_decays_what_it_is_told_to():
    """OLMo 2: neither the tokens' nor other tables, but scales, and the unembedding."""
    model: Any = build(tiny_dense(tie_embeddings=False))
    zeros = jax.tree.map(jnp.zeros_like, model)

    def moved(**settings):
        optimizer = AdamW(weight_decay=0.5, **settings)
        plain = optimizer.build(lambda count: RATE)
        each = optimizer.build_per_parameter(lambda count: RATE, lambda parameter: Multipliers())
        found = [arrays(t.update(zeros, t.init(model), model)[0]) for t in (plain, each)]
        for name, update in found[0].items():
            np.testing.assert_array_equal(update, found[1][name])
        return {name for name, update in found[0].items() if update.any()}

    names = set(arrays(model))
    scales = {name for name in names if name.endswith("scale")}
    assert moved() == names - scales
    assert moved(decay_vectors=True) == names
    assert moved(undecayed=("embedding",)) == names - scales - {"embedding.table"}
    assert "unembedding" in moved(undecayed=("embedding",), decay_vectors=True)
    with pytest.raises(ConfigError, match=r"'embed' of adamw\.undecayed is no parameter"):
        moved(undecayed=("embed",))
