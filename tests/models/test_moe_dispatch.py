"""The sparse layer's outputs, losses and gradients: against all experts on all tokens, and on every
mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.helpers import one_device_mesh, tiny_moe

from jaxgen.models.moe import MoE
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules

MESHES = {
    "data": MeshConfig(data=8),
    "expert": MeshConfig(data=1, expert=8),
    "fsdp, tensor, expert": MeshConfig(data=1, fsdp=2, tensor=2, expert=2),
    "expert, sequence, tensor": MeshConfig(data=1, expert=2, sequence=2, tensor=2),
}
SHAPE = (8, 16, 32)
ACTIVATIONS = {"swiglu": "silu", "gelu": "gelu_tanh"}
KINDS = {"swiglu": ("router", "up", "gate", "down"), "gelu": ("router", "up", "down")}


@pytest.fixture(autouse=True)
def under_a_layout():
    """The layers are used here without the root that would bring their layout."""
    with using(Layout()):
        yield


def inputs():
    """x, what the loss multiplies the output with, and segments whose ends are padding."""
    x, cotangent = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    lengths = np.arange(SHAPE[0])[:, None] + 9
    segment_ids = jnp.array(np.arange(SHAPE[1]) < lengths, jnp.int32)
    return x, cotangent, segment_ids


def layer_gradients(kind, mesh):
    """Output, losses, load, and gradients of x and of every weight, as numpy."""
    with jax.set_mesh(mesh):
        rules = Rules()
        layer = jax.jit(
            lambda: MoE(tiny_moe(activation=ACTIVATIONS[kind], gated=kind == "swiglu"), nnx.Rngs(0))
        )()
        layout = rules.activation("batch", "length", None)
        x, cotangent, segment_ids = inputs()
        x, cotangent = jax.reshard((x, cotangent), (layout, layout))
        segment_ids = jax.reshard(segment_ids, rules.activation("batch", "length"))

        def loss(layer, x):
            y, statistics = layer(x, segment_ids)
            auxiliary = 3 * statistics.load_balance_loss + 2 * statistics.z_loss
            return jnp.sum(y * cotangent) + auxiliary, (y, statistics)

        differentiate = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
        (layer_gradient, x_gradient), (y, statistics) = differentiate(layer, x)
    weights = {name: getattr(layer, name)[...] for name in KINDS[kind]}
    gradients = {name: getattr(layer_gradient, name)[...] for name in KINDS[kind]}
    results = {"y": y, "x": x_gradient, **gradients, **vars(statistics)}
    return jax.tree.map(np.asarray, (weights, results))


@functools.cache
def on_one_device(kind):
    return layer_gradients(kind, one_device_mesh())


def all_experts(weights, x, segment_ids, kind):
    """Every expert on every token, weighted with zero where it was not chosen; and the losses."""
    is_token = (segment_ids > 0).astype(jnp.float32)
    logits = x @ weights["router"]
    p = jax.nn.softmax(logits)
    smallest = jnp.sort(p)[..., -2:-1]
    chosen = (p >= smallest) * is_token[..., None]
    share = p * chosen / jnp.maximum(jnp.sum(p * chosen, -1, keepdims=True), 1e-9)
    hidden = jnp.einsum("btd,edf->btef", x, weights["up"])
    if kind == "swiglu":
        hidden = jax.nn.silu(jnp.einsum("btd,edf->btef", x, weights["gate"])) * hidden
    else:
        hidden = jax.nn.gelu(hidden)
    y = jnp.einsum("btef,efd,bte->btd", hidden, weights["down"], share)
    tokens = is_token.sum()
    load = chosen.sum((0, 1)) / (2 * tokens)
    balance = load.size * jnp.vdot(load, jnp.einsum("bte,bt->e", p, is_token) / tokens)
    z = jnp.sum(is_token * jax.nn.logsumexp(logits, -1) ** 2) / tokens
    return y, {"load": load, "load_balance_loss": balance, "z_loss": z, "dropped": 0.0}


def close(got, expected, name):
    """Equal to 1e-5 of the largest entry: sums over other orders round differently."""
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("implementation", ["blocks", "ragged_dot"])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_all_experts_on_all_tokens(kind, implementation, monkeypatch):
    monkeypatch.setattr("jaxgen.ops.experts.default_implementation", lambda: implementation)
    weights, got = layer_gradients(kind, one_device_mesh())
    x, cotangent, segment_ids = inputs()

    def loss(weights, x):
        y, statistics = all_experts(weights, x, segment_ids, kind)
        auxiliary = 3 * statistics["load_balance_loss"] + 2 * statistics["z_loss"]
        return jnp.vdot(y, cotangent) + auxiliary, {"y": y, **statistics}

    gradients, results = jax.grad(loss, (0, 1), has_aux=True)(weights, x)
    expected = {**results, **gradients[0], "x": gradients[1]}
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        close(got[name], value, name)


def check_mesh(kind, mesh):
    _, expected = on_one_device(kind)
    _, got = layer_gradients(kind, make_mesh(MESHES[mesh]))
    for name, value in expected.items():
        close(got[name], value, name)


@pytest.mark.parametrize("mesh", MESHES)
def test_does_not_depend_on_the_mesh(mesh):
    check_mesh("swiglu", mesh)


def test_without_a_gate_does_not_depend_on_the_mesh():
    check_mesh("gelu", "fsdp, tensor, expert")


def test_ragged_dot_on_a_mesh_equals_blocks_on_one_device(monkeypatch):
    on_one_device("swiglu")
    monkeypatch.setattr("jaxgen.ops.experts.default_implementation", lambda: "ragged_dot")
    check_mesh("swiglu", "fsdp, tensor, expert")
