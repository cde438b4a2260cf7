"""Encoders of another form than their decoder: deeper, narrower, sparse."""

import dataclasses
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import (
    MESHES,
    build,
    one_device_mesh,
    one_row,
    random_batch,
    source_of,
    tiny_dense,
    tiny_model,
)
from support.tiers import slow_but

from jaxgen.commands.models import load_model
from jaxgen.configuration import load_text, to_gin
from jaxgen.errors import ConfigError
from jaxgen.models.base import abstract_model, check_model_fits
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.counting import count_parameters, forward_flops_per_token
from jaxgen.models.parameters import named_parameters, number_of_parameters
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.attention.biases import RelativeBias
from jaxgen.ops.attention.masks import Bidirectional
from jaxgen.ops.experts import BLOCK_ROWS
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.ops.routing import route
from jaxgen.planning.work import read_work
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import put_batch

READS = (LayerConfig((Bidirectional(),)),)
NARROW = StackConfig(
    num_layers=3, embed_dim=48, num_heads=4, head_dim=8, mlp_dim=40, layers=READS, norm="layer",
    position_bias=RelativeBias(8, 16),
)  # fmt: skip
SPARSE = StackConfig(
    num_layers=2, embed_dim=32, num_heads=8, mlp_dim=64, layers=READS,
    moe=MoEConfig(num_experts=4, experts_per_token=2, mlp_dim=16, every=2),
)  # fmt: skip
CONFIGS = {
    "narrow": tiny_dense(encoder=NARROW),
    "sparse": tiny_dense(encoder=SPARSE, num_layers=1),
    "learned positions": tiny_dense(
        encoder=NARROW, embedding_positions="learned", max_length=32, tie_embeddings=False,
        embedding_norm=True,
    ),
}  # fmt: skip


def batch_of(length=32):
    batch = random_batch(length=length)
    return dataclasses.replace(batch, encoder=source_of(batch, length))


@pytest.mark.parametrize("name", CONFIGS)
def test_counts_are_those_of_the_real_tree(name):
    config = CONFIGS[name]
    model = abstract_model(config)
    count = count_parameters(config)
    assert count.total == number_of_parameters(model)
    named = dict(named_parameters(model))
    tables = [p for n, p in named.items() if "embedding" in n and "norm" not in n]
    assert count.embedding == sum(int(np.prod(p.shape)) for p in tables)
    idle = [int(np.prod(p.shape)) // 2 for p in named.values() if "experts" in p.logical_axes[:-1]]
    assert count.total - count.active == sum(idle)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["narrow", "sparse"])
def test_flops_are_those_of_the_compiled_program(name, monkeypatch):
    monkeypatch.setattr("jaxgen.ops.attention.dense.QUERY_CHUNKS", 1)
    config, batch = CONFIGS[name], one_row(64, batch_size=4)
    batch = dataclasses.replace(batch, encoder=source_of(batch, 64))
    forward = jax.jit(lambda model, batch: model.logits(model(batch).hidden))
    program = forward.lower(build(config), batch).compile().as_text()
    assert program is not None
    flops = read_work(program, {}, Fraction(4 * 64 * 2, BLOCK_ROWS)).flops
    assert abs(flops / (4 * 64 * forward_flops_per_token(config, 64)) - 1) < 0.01


@pytest.mark.parametrize("name", slow_but(["narrow"], ["narrow", "sparse"]))
def test_targets_read_the_source_of_their_segment_alone(name):
    model, batch = build(CONFIGS[name]), batch_of()
    hidden = jax.jit(lambda model, batch: model(batch).hidden)
    assert batch.encoder is not None
    tokens = np.array(batch.encoder.tokens)
    first = batch.encoder.segment_ids == 1
    tokens[first] = (tokens[first] + 1) % 64
    other = dataclasses.replace(batch, encoder=dataclasses.replace(batch.encoder, tokens=tokens))
    moved = np.abs(np.asarray(hidden(model, batch) - hidden(model, other))).max(axis=-1)
    assert (moved[batch.segment_ids == 1] > 1e-4).all()
    assert moved[batch.segment_ids == 2].max() < 1e-6


@pytest.mark.slow
def test_a_sparse_encoder_has_its_own_losses_and_balance():
    assert SPARSE.moe is not None
    moe = dataclasses.replace(SPARSE.moe, bias_balancing=True, balance_rate=0.01)
    encoder = dataclasses.replace(SPARSE, moe=moe)
    decoder = MoEConfig(num_experts=8, experts_per_token=2, mlp_dim=8, load_balance_weight=0.5)
    model = build(tiny_dense(encoder=encoder, moe=decoder))
    output = model(batch_of())
    figures = output.auxiliary.means | output.auxiliary.arrays
    assert figures["router/load"].shape == (2, 8)
    assert figures["encoder_router/load"].shape == (1, 4)
    expected = sum(
        weight * figures[f"{name}/load_balance_loss"].sum()
        + 0.001 * figures[f"{name}/z_loss"].sum()
        for name, weight in (("router", 0.5), ("encoder_router", 0.01))
    )
    np.testing.assert_allclose(output.auxiliary.loss, expected, rtol=1e-6)
    load = np.array([[0.4, 0.3, 0.2, 0.1]], np.float32)
    moved = dict(named_parameters(model.after_update({"encoder_router/load": load})))
    changed = {
        name: moved[name][...] - parameter[...]
        for name, parameter in named_parameters(model)
        if (moved[name][...] != parameter[...]).any()
    }
    ((name, change),) = changed.items()
    assert name.startswith("encoder.groups.") and name.endswith("router_bias")
    np.testing.assert_allclose(change[0], [-0.01, -0.01, 0.01, 0.01], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["narrow", "sparse"])
def test_a_mesh_changes_nothing(name):
    results = []
    for mesh in (one_device_mesh(), make_mesh(MESHES["mixed"])):
        check_model_fits(CONFIGS[name], Layout(), mesh)
        with jax.set_mesh(mesh):
            model = build(CONFIGS[name])
            batch = put_batch(batch_of(), mesh, Rules())
            results.append(np.asarray(jax.jit(lambda m, b: m(b).hidden)(model, batch)))
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_shorthand_is_the_encoder_that_it_stands_for():
    short = tiny_dense(num_encoder_layers=2)
    assert short.encoder_stack is not None
    spelt_out = dataclasses.replace(short, num_encoder_layers=0, encoder=short.encoder_stack)
    assert spelt_out.encoder_stack == short.encoder_stack
    batch = batch_of()
    models = [build(config) for config in (short, spelt_out)]
    np.testing.assert_array_equal(models[0](batch).hidden, models[1](batch).hidden)


@pytest.mark.parametrize(
    ("name", "sparse", "choices"),
    [
        ("switch/base_128", [1, 3, 5, 7, 9, 11], 1),
        ("switch/c_2048", list(range(15)), 1),
        ("st_moe/32b", [3, 7, 11, 15, 19, 23], 2),
    ],
)
def test_the_sparse_layers_of_switch_and_st_moe_are_in_both_stacks(name, sparse, choices):
    config = load_model(name)
    encoder = config.encoder_stack
    assert encoder is not None
    for stack in (config, encoder):
        assert stack.moe is not None and stack.moe.capacity_factor == 1.25
        assert stack.moe.experts_per_token == choices
        assert [i for i in range(stack.num_layers) if stack.moe.is_sparse(i)] == sparse
    (reads,), (writes,) = encoder.layers, config.layers
    assert reads.mask == (Bidirectional(),) and reads.rope is None and writes.rope is None
    shared = {f.name for f in dataclasses.fields(StackConfig)} - {"layers"}
    assert all(getattr(encoder, one) == getattr(config, one) for one in shared)


def test_switchs_expert_is_weighted_by_its_probability_and_drops_what_it_has_no_room_for():
    """2101.03961, eq. 2 and 3, on one row: y = p_i(x) E_i(x), at most capacity tokens an expert."""
    config = tiny_model("switch")
    assert config.moe is not None
    moe = dataclasses.replace(config.moe, capacity_factor=1.0)
    logits = np.random.default_rng(0).normal(size=(1, 16, 8)).astype(np.float32)
    tokens = RoutedTokens(jnp.ones((1, 16), jnp.int32))
    routes, _ = jax.jit(lambda x: route(x, tokens, moe, is_training=True))(logits)
    probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    room = [2] * 8  # 16 tokens over 8 experts.
    for token, p in enumerate(probabilities):
        best = int(np.argmax(p))
        kept = room[best] > 0
        room[best] -= kept
        assert routes.experts[token, 0] == (best if kept else 8)
        np.testing.assert_allclose(routes.weights[token, 0], p[best], rtol=1e-6)


def test_gin_holds_it():
    config = CONFIGS["sparse"]
    assert load_text(to_gin(config), root="model") == config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder": NARROW, "num_encoder_layers": 2}, "num_encoder_layers=2"),
        ({"encoder": NARROW, "compute_dtype": "bfloat16"}, "computes in float32"),
        ({"encoder": NARROW, "parallel": True}, "without an encoder"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        tiny_dense(**changes)
