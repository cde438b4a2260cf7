"""The sparse layer's outputs, losses and gradients: against all experts on all tokens, and on every
mesh, its tokens gathered or exchanged."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.helpers import one_device_mesh, tiny_moe
from support.tiers import slow_but

from jaxgen.errors import ConfigError
from jaxgen.models.moe import MoE
from jaxgen.ops import expert_exchange
from jaxgen.ops.expert_exchange import choose_exchange
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.planning.work import read_work
from jaxgen.sharding.layout import ExpertExchange, Layout, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules

MESHES = {
    "data": MeshConfig(data=8),
    "expert": MeshConfig(data=1, expert=8),
    "fsdp, tensor, expert": MeshConfig(data=1, fsdp=2, tensor=2, expert=2),
    "expert, sequence, tensor": MeshConfig(data=1, expert=2, sequence=2, tensor=2),
    "data, expert": MeshConfig(data=2, expert=4),
    "expert, sequence": MeshConfig(data=1, expert=4, sequence=2),
}
SHAPE = (8, 16, 32)
ACTIVATIONS = {"swiglu": "silu", "gelu": "gelu_tanh"}
FIGURES = ("load", "load_balance_loss", "sequence_balance_loss", "z_loss", "dropped", "entropy")
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
            y, statistics = layer(x, RoutedTokens(segment_ids))
            auxiliary = 3 * statistics.load_balance_loss + 2 * statistics.z_loss
            auxiliary += 5 * statistics.sequence_balance_loss
            return jnp.sum(y * cotangent) + auxiliary, (y, statistics)

        differentiate = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
        (layer_gradient, x_gradient), (y, statistics) = differentiate(layer, x)
    weights = {name: getattr(layer, name)[...] for name in KINDS[kind]}
    gradients = {name: getattr(layer_gradient, name)[...] for name in KINDS[kind]}
    figures = {name: getattr(statistics, name) for name in FIGURES}
    results = {"y": y, "x": x_gradient, **gradients, **figures}
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
    by_row = is_token.sum(1)[:, None]
    shares = chosen.sum(1) / (2 * by_row), jnp.einsum("bte,bt->be", p, is_token) / by_row
    by_row = load.size * jnp.sum(shares[0] * shares[1], -1)
    entropy = -jnp.sum(is_token * jnp.sum(p * jnp.log(p), -1)) / tokens
    figures = load, balance, by_row.mean(), z, 0.0, entropy
    return y, dict(zip(FIGURES, figures, strict=True))


def close(got, expected, name):
    """Equal to 1e-5 of the largest entry: sums over other orders round differently."""
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize(
    "implementation", slow_but(["blocks", "ragged_dot"], ["blocks", "ragged_dot", "megablox"])
)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_all_experts_on_all_tokens(kind, implementation, monkeypatch):
    monkeypatch.setattr("jaxgen.models.moe.default_implementation", lambda *_: implementation)
    weights, got = layer_gradients(kind, one_device_mesh())
    x, cotangent, segment_ids = inputs()

    def loss(weights, x):
        y, statistics = all_experts(weights, x, segment_ids, kind)
        auxiliary = 3 * statistics["load_balance_loss"] + 2 * statistics["z_loss"]
        auxiliary += 5 * statistics["sequence_balance_loss"]
        return jnp.vdot(y, cotangent) + auxiliary, {"y": y, **statistics}

    gradients, results = jax.grad(loss, (0, 1), has_aux=True)(weights, x)
    expected = {**results, **gradients[0], "x": gradients[1]}
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        close(got[name], value, name)


def check_mesh(kind, mesh, exchange: ExpertExchange = "gather"):
    _, expected = on_one_device(kind)
    with using(Layout(expert_exchange=exchange)):
        _, got = layer_gradients(kind, make_mesh(MESHES[mesh]))
    for name, value in expected.items():
        close(got[name], value, name)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", list(MESHES)[:4])
def test_does_not_depend_on_the_mesh(mesh):
    check_mesh("swiglu", mesh)


@pytest.mark.slow
def test_without_a_gate_does_not_depend_on_the_mesh():
    check_mesh("gelu", "fsdp, tensor, expert")


@pytest.mark.slow
@pytest.mark.parametrize("exchange", ["gather", "all_to_all"])
@pytest.mark.parametrize("implementation", ["ragged_dot", "megablox"])
def test_other_products_on_a_mesh_equal_blocks_on_one_device(implementation, exchange, monkeypatch):
    on_one_device("swiglu")
    monkeypatch.setattr("jaxgen.models.moe.default_implementation", lambda *_: implementation)
    check_mesh("swiglu", "fsdp, tensor, expert", exchange)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "spare"),
    list(itertools.product(list(MESHES)[1:], [1.5, 0.3])),
)
def test_exchanging_equals_one_device(mesh, spare, monkeypatch):
    """Also with slots for a third of what goes to each device: the rest takes further rounds."""
    monkeypatch.setattr(expert_exchange, "SPARE", spare)
    check_mesh("swiglu", mesh, "all_to_all")


def ragged_by_gathering(
    operand, output, input_offsets, send_sizes, output_offsets, recv_sizes, *, axis_name
):
    """`jax.lax.ragged_all_to_all` as its documentation defines it; wrong sizes give NaN."""
    here, place = jax.lax.axis_index(axis_name), jnp.arange(len(output))
    operands, starts, sizes, targets = (
        jax.lax.all_gather(x, axis_name)
        for x in (operand, input_offsets, send_sizes, output_offsets)
    )
    for source in range(len(operands)):
        size, target = sizes[source, here], targets[source, here]
        rows = operands[source][(place - target + starts[source, here]) % len(operand)]
        rows = jnp.where(size == recv_sizes[source], rows, jnp.nan)
        is_theirs = (place >= target) & (place < target + size)
        output = jnp.where(is_theirs[:, None], rows, output)
    return output


@pytest.mark.slow
def test_sending_filled_slots_only_equals_one_device(monkeypatch):
    """As on TPU and GPU; the collective does not run on CPU."""
    on_one_device("swiglu")
    monkeypatch.setattr(expert_exchange, "compiled_for", lambda: "tpu")
    monkeypatch.setattr(expert_exchange, "SPARE", 0.5)
    monkeypatch.setattr(jax.lax, "ragged_all_to_all", ragged_by_gathering)
    check_mesh("swiglu", "data, expert", "all_to_all")


def test_a_compiled_exchange_sends_each_assignment_to_one_device_and_gathers_no_tokens():
    moe = MoEConfig(8, 2, mlp_dim=32, capacity_factor=1.0)
    mesh = make_mesh(MESHES["data, expert"])

    def loss(layer, x):
        tokens = RoutedTokens(jnp.ones(x.shape[:2], jnp.int32, out_sharding=segments))
        y, _ = layer(x, tokens, jax.random.key(0))
        return jnp.sum(y * y)

    with jax.set_mesh(mesh), using(Layout(expert_exchange="all_to_all")):
        segments = Rules().activation("batch", "length")
        layer = jax.jit(lambda: MoE(tiny_moe(moe=moe), nnx.Rngs(0)))()
        x = jax.reshard(jnp.ones(SHAPE), Rules().activation("batch", "length", None))
        text = jax.jit(jax.grad(loss, (0, 1))).lower(layer, x).compile().as_text()
    work = read_work(text or "", {axis: int(size) for axis, size in mesh.shape.items()})
    found = {(one.kind, one.axes): one for one in work.collectives if "expert" in one.axes}
    exchanged = found.pop(("all-to-all", ("expert",)))
    # Rows go there and back, gradients too, and the numbers of the experts there.
    rows = (
        2 * SHAPE[0] * SHAPE[1] // 8
    )  # a device's assignments, which a factor of 1 makes room for
    assert exchanged.calls == 5
    assert exchanged.bytes == 4 * rows * SHAPE[2] * 4 + rows * 4
    # The router's figures and the gradient of its matrix remain.
    assert {kind for kind, _ in found} == {"all-reduce"}
    assert sum(one.bytes for one in found.values()) < 2 * 4 * SHAPE[2] * 8


@pytest.mark.parametrize(
    ("platform", "choices", "parts", "expected"),
    [
        # Times of exchanging over gathering on CPU, tools/bench/expert_exchange.py:
        ("cpu", 2, 2, "gather"),  # 1.09
        ("cpu", 4, 2, "gather"),  # 1.11
        ("cpu", 2, 4, "all_to_all"),  # 0.82
        ("cpu", 4, 4, "all_to_all"),  # 0.85
        ("cpu", 2, 8, "all_to_all"),  # 0.53
        ("cpu", 4, 8, "all_to_all"),  # 0.75
        # By bytes: choices of a token against devices that all tokens go to.
        ("tpu", 8, 4, "gather"),
        ("tpu", 8, 16, "all_to_all"),
        ("gpu", 2, 4, "all_to_all"),
    ],
)
def test_the_way_that_costs_less_is_taken(platform, choices, parts, expected, monkeypatch):
    monkeypatch.setattr(expert_exchange, "compiled_for", lambda: platform)
    moe = MoEConfig(16, choices, mlp_dim=1)
    found = choose_exchange("auto", moe, 4, 128, False, {"expert": parts}, ("data", "expert"))
    assert ("gather" if found is None else "all_to_all") == expected


def test_an_exchange_between_devices_of_the_same_tokens_is_refused():
    moe = MoEConfig(16, 2, mlp_dim=1)
    with pytest.raises(ConfigError, match=r"expert_exchange='all_to_all' needs tokens.*'gather'"):
        choose_exchange("all_to_all", moe, 4, 128, False, {"tensor": 2}, ("data",))
