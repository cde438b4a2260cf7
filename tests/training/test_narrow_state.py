"""A narrow state against its wide one, and against what rounding to the nearest would do."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.helpers import MESHES, build, one_device_mesh, random_batch, tiny_dense, tiny_moe

from jaxgen.errors import ConfigError
from jaxgen.models.parametrization import Parametrization
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.optimizers.adafactor import Adafactor
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.optimizers.int8_blocks import LEVELS, POWER, decode, encode
from jaxgen.training.optimizers.lion import Lion
from jaxgen.training.optimizers.narrow_state import NarrowState
from jaxgen.training.optimizers.parametrized import build_optimizer
from jaxgen.training.program import build_program
from jaxgen.training.schedules import WarmupCosine


@pytest.mark.slow
def test_a_running_mean_gets_where_rounding_to_the_nearest_would_stop():
    """Of a constant square, whose mean after n steps is 1 - beta2**n of it."""
    beta2, steps, gradient = 0.999, 3000, jnp.full(2000, 0.01)
    transformation = NarrowState(AdamW(beta2=beta2, weight_decay=0.0)).build(lambda count: 1e-3)
    parameters = jnp.zeros(2000)

    def step(state, _):
        return transformation.update(gradient, state, parameters)[1], None

    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, length=steps))(
        transformation.init(parameters)
    )
    (adam,) = [one for one in jax.tree.leaves(state, is_leaf=_is_adam) if _is_adam(one)]
    assert adam.nu.dtype == adam.mu.dtype == jnp.bfloat16
    expected = 1e-4 * (1 - beta2**steps)
    assert float(jnp.mean(adam.nu.astype(jnp.float32))) == pytest.approx(expected, rel=0.003)
    nearest = jnp.bfloat16(0)
    for _ in range(steps):
        nearest = (beta2 * nearest.astype(jnp.float32) + (1 - beta2) * 1e-4).astype(jnp.bfloat16)
    assert float(nearest) < 0.5 * expected


def _is_adam(node):
    return isinstance(node, optax.ScaleByAdamState)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf, 0.0, -1.5])
def test_what_bfloat16_holds_stays_what_it_is(value):
    transformation = NarrowState(Lion(weight_decay=0.0)).build(lambda count: 1e-3)
    state = transformation.init(jnp.zeros(64))
    # Lion's momentum is a hundredth of the first gradient.
    _, state = transformation.update(jnp.full(64, value) * 100, state, jnp.zeros(64))
    (momentum,) = [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.bfloat16]
    np.testing.assert_allclose(momentum.astype(jnp.float32), value, rtol=2**-7)


def test_eight_bits_hold_a_block_of_unlike_sizes_and_are_right_on_average():
    sizes = 10.0 ** np.random.default_rng(0).uniform(-12, 0, (5, 300))
    x = jnp.asarray(sizes * np.where(np.arange(300) % 2, 1, -1), jnp.float32).at[:, 7].set(0)
    keys = jax.random.split(jax.random.key(0), 500)
    codes, scales = jax.vmap(lambda key: encode(x, key))(keys)
    assert codes.dtype == jnp.int8 and codes.shape == (500, *x.shape)
    np.testing.assert_array_equal(scales[0], jnp.abs(x).max(-1, keepdims=True))
    found = np.asarray(jax.vmap(decode)(codes, scales))
    # What is not 0 stays so, with its sign, however small it is beside the rest.
    np.testing.assert_array_equal(np.sign(found), np.broadcast_to(np.sign(x), found.shape))
    # Each is one of the codes on both sides, with chances that make the mean exact.
    share = np.abs(np.asarray(x, np.float64)) / np.asarray(scales[0])
    below = np.clip(np.floor(LEVELS * share ** (1 / POWER)), 1, LEVELS - 1)
    is_large = share > 2 * LEVELS**-POWER
    added = np.abs(np.asarray(codes, np.int32)) - below
    assert set(np.unique(added[:, is_large])) == {0, 1}
    low, high = (below / LEVELS) ** POWER, ((below + 1) / LEVELS) ** POWER
    chance = np.clip((share - low) / (high - low), 0, 1)
    spread = (high - low) * (np.sqrt(chance * (1 - chance) / len(keys)) + 2**-15)
    mean = np.abs(found).mean(0, dtype=np.float64) / np.asarray(scales[0])
    allowed = 5 * spread + 1e-5 * share
    np.testing.assert_array_less(np.abs(mean - share)[is_large], allowed[is_large])


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_a_moment_that_is_not_finite_is_not_hidden(value):
    x = jnp.ones((2, 32)).at[0, 3].set(value)
    found = decode(*encode(x, jax.random.key(0)))
    assert not np.isfinite(found[0, 3]) and np.all(np.isfinite(found[1]))


def test_eight_bits_train_as_32_do_where_some_entries_are_never_updated():
    """Adam on a matrix whose columns' gradients differ by 10**4, and of which some are 0."""
    size = 10.0 ** jnp.linspace(-4, 0, 64) * (jnp.arange(64) % 8 > 0)
    goal = jax.random.normal(jax.random.key(1), (4, 64))

    def final(optimizer):
        transformation = optimizer.build(lambda count: 0.05 * 0.99**count)

        def step(carry, key):
            x, state = carry
            noise = jax.random.normal(key, x.shape)
            updates, state = transformation.update(size * (x - goal + 0.1 * noise), state, x)
            return (optax.apply_updates(x, updates), state), None

        start = jnp.zeros_like(goal)
        keys = jax.random.split(jax.random.key(2), 400)
        (x, state), _ = jax.lax.scan(step, (start, transformation.init(start)), keys)
        held = sum(leaf.nbytes for leaf in jax.tree.leaves(state) if leaf.ndim)
        return np.asarray(x), held

    adam = AdamW(beta2=0.999, weight_decay=0.0, epsilon=1e-15)
    wide, wide_bytes = final(adam)
    narrow, narrow_bytes = final(NarrowState(adam, "int8"))
    np.testing.assert_array_equal(narrow[:, size == 0], 0)
    moved = np.asarray(size) > 0
    assert np.abs(wide - goal)[:, moved].mean() < 0.05
    assert np.abs(narrow - goal)[:, moved].mean() < 0.05
    assert (wide_bytes, narrow_bytes) == (2 * 4 * 4 * 64, 2 * 4 * (64 + 4))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [AdamW(), Adafactor()], ids=lambda one: type(one).__name__)
def test_updates_are_those_of_the_wide_one_but_for_rounding_and_on_any_mesh(optimizer):
    def updates(optimizer, mesh):
        with jax.set_mesh(mesh):
            model: Any = build(tiny_moe())
            transformation = optimizer.build(lambda count: 0.02)
            state = jax.jit(transformation.init)(model)
            for step in range(3):
                gradients = jax.tree.map(lambda x, step=step: jnp.sin(100 * x + step), model)
                changes, state = jax.jit(transformation.update)(gradients, state, model)
        sizes = [leaf.dtype.itemsize for leaf in jax.tree.leaves(state) if leaf.ndim]
        return [np.asarray(leaf) for leaf in jax.tree.leaves(changes)], max(sizes)

    wide, wide_size = updates(optimizer, one_device_mesh())
    narrow, narrow_size = updates(NarrowState(optimizer), one_device_mesh())
    split, _ = updates(NarrowState(optimizer), make_mesh(MESHES["mixed"]))
    assert (wide_size, narrow_size) == (4, 2)
    for one, other, third in zip(wide, narrow, split, strict=True):
        scale = np.abs(one).max()
        np.testing.assert_allclose(other / scale, one / scale, atol=0.02)
        # A last bit of a gradient may round the other way.
        assert np.mean(np.abs(third - other) > 1e-4 * scale) < 0.01


@pytest.mark.slow
def test_a_model_learns_with_eight_bits_as_with_32_on_any_mesh():
    def curve(optimizer, mesh):
        schedule = WarmupCosine(peak=1e-2, warmup=0)
        train = TrainConfig(100, 8, length=32, optimizer=optimizer, schedule=schedule)
        program = build_program(tiny_dense(), train, mesh)
        step, losses = program.train_step(), []
        with jax.set_mesh(mesh):
            state = program.fresh_state()
            for _ in range(20):
                state, metrics = step(state, put_batch(random_batch(), mesh, Rules()))
                losses.append(float(metrics.objective))
        return np.array(losses)

    wide = curve(AdamW(), one_device_mesh())
    narrow = curve(NarrowState(AdamW(), "int8"), one_device_mesh())
    split = curve(NarrowState(AdamW(), "int8"), make_mesh(MESHES["mixed"]))
    assert wide[-1] < wide[0] - 1
    assert 0 < np.abs(narrow - wide).max() < 0.05
    np.testing.assert_allclose(split, narrow, atol=0.02)


def test_a_parametrization_is_followed_where_the_optimizer_can():
    model = dataclasses.replace(tiny_dense(), parametrization=Parametrization("mup", 16))
    assert build_optimizer(NarrowState(AdamW()), lambda count: 1e-3, model)
    with pytest.raises(ConfigError, match=r"narrow_state.optimizer=Lion .*use AdamW"):
        build_optimizer(NarrowState(Lion()), lambda count: 1e-3, model)
