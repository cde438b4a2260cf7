"""A narrow state against its wide one, and against what rounding to the nearest would do."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.helpers import MESHES, build, one_device_mesh, tiny_dense, tiny_moe

from jaxgen.errors import ConfigError
from jaxgen.models.parametrization import Parametrization
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.optimizers.adafactor import Adafactor
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.optimizers.lion import Lion
from jaxgen.training.optimizers.narrow_state import NarrowState
from jaxgen.training.optimizers.parametrized import build_optimizer


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


def test_a_parametrization_is_followed_where_the_optimizer_can():
    model = dataclasses.replace(tiny_dense(), parametrization=Parametrization("mup", 16))
    assert build_optimizer(NarrowState(AdamW()), lambda count: 1e-3, model)
    with pytest.raises(ConfigError, match=r"narrow_state.optimizer=Lion .*use AdamW"):
        build_optimizer(NarrowState(Lion()), lambda count: 1e-3, model)
