"""Products in 8 bits against products that are not rounded."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import MESHES, one_device_mesh, random_batch, tiny_dense, tiny_moe

from jaxgen.errors import ConfigError
from jaxgen.ops.linear import linear
from jaxgen.ops.quantised import quantised_einsum
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program
from jaxgen.training.schedules import WarmupCosine

EQUATION = "btd,df->btf"


def operands():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 64)) * np.exp(rng.normal(size=(2, 3, 1)))
    weight = rng.normal(size=(64, 16)) * np.exp(rng.normal(size=(1, 16)))
    return x.astype(np.float32), weight.astype(np.float32)


def test_each_token_and_channel_is_rounded_in_steps_of_its_own():
    """By half a step at most: 2 / 255 of the range of a row of x, and of a column of the weight."""
    x, weight = operands()
    found = quantised_einsum(EQUATION, jnp.asarray(x), jnp.asarray(weight), "int8", None)
    x_half, half = abs(x).max(-1, keepdims=True) / 255, abs(weight).max(0) / 255
    bound = x_half * abs(weight).sum(0) + half * abs(x).sum(-1, keepdims=True)
    bound += x.shape[-1] * x_half * half
    error = abs(found - x @ weight)
    assert np.all(error < bound) and np.all(error.max((0, 1)) > bound.max((0, 1)) / 1000)


@pytest.mark.parametrize("dtype, error", [("int8", 0.02), ("float8", 0.06)])
def test_a_rounded_product_and_its_gradients_are_near_the_product(dtype, error):
    x, weight = operands()
    ahead = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 16)), jnp.float32)

    def all_of(dtype):
        def product(x, weight):
            return linear(EQUATION, x, weight, jax.P(), dtype)

        y, backward = jax.vjp(product, jnp.asarray(x), jnp.asarray(weight))
        return y, *backward(ahead)

    y, of_x, of_weight = all_of(None)
    rounded, rounded_of_x, rounded_of_weight = all_of(dtype)
    for one, other in ((y, rounded), (of_x, rounded_of_x)):
        assert 0 < jnp.linalg.norm(one - other) / jnp.linalg.norm(one) < error
    np.testing.assert_array_equal(of_weight, rounded_of_weight)
    text = jax.jit(lambda x, w: linear(EQUATION, x, w, jax.P(), dtype)).lower(x, weight).as_text()
    assert {"int8": "xi8>", "float8": "xf8E4M3FN>"}[dtype] in text


def curve(config, mesh, steps=12):
    train = TrainConfig(100, 8, length=32, schedule=WarmupCosine(peak=1e-2, warmup=0))
    program = build_program(config, train, mesh)
    step, losses = program.train_step(), []
    with jax.set_mesh(mesh):
        state = program.fresh_state()
        for _ in range(steps):
            state, metrics = step(state, put_batch(random_batch(), mesh, Rules()))
            losses.append(float(metrics.objective))
    return np.array(losses)


@pytest.mark.slow
def test_a_model_learns_with_rounded_products_as_without_on_any_mesh():
    plain = curve(tiny_dense(), one_device_mesh())
    rounded = curve(tiny_dense(matmul_dtype="int8"), one_device_mesh())
    split = curve(tiny_dense(matmul_dtype="int8"), make_mesh(MESHES["mixed"]))
    assert plain[-1] < plain[0] - 0.5
    assert np.abs(rounded - plain).max() < 0.05
    assert np.any(rounded != plain)
    np.testing.assert_allclose(split, rounded, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["tensor", "sequence", "stage"])
def test_float8_and_sparse_layers_on_other_meshes(mesh):
    rounded = curve(tiny_moe(matmul_dtype="float8"), make_mesh(MESHES[mesh]), steps=4)
    assert np.abs(rounded - curve(tiny_moe(), one_device_mesh(), steps=4)).max() < 0.1


def test_qwix_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "qwix", None)
    x, weight = map(jnp.asarray, operands())
    with pytest.raises(ConfigError, match=r"matmul_dtype='int8' needs qwix.*jaxgen\[quantized\]"):
        quantised_einsum(EQUATION, x, weight, "int8", None)
