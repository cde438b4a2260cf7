"""Attention in blocks against dense attention: outputs, gradients, memory, meshes, caches."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.attention_calls import (
    BIASES,
    EveryOther,
    assert_as_dense,
    make_call,
    outputs_and_gradients,
    packed_side,
)
from support.helpers import MESHES, build, one_device_mesh, one_row, random_batch, tiny_dense

from jaxgen.models.block_config import LayerConfig
from jaxgen.models.cache import empty_cache
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.attention import blockwise
from jaxgen.ops.attention.biases import Alibi, RelativeBias
from jaxgen.ops.attention.blockwise import blockwise_attention
from jaxgen.ops.attention.dense import dense_attention
from jaxgen.ops.attention.masks import (
    AttentionMask,
    Banded,
    Bidirectional,
    BlockCausal,
    Causal,
    Chunked,
    Window,
)
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import put_batch

MASKS = (
    (Causal(),),
    (Causal(), Window(9)),
    (Causal(), Chunked(7)),
    (Causal(), Chunked(5) | Window(4)),
    (Causal(), EveryOther()),
    (Banded(6),),
    (BlockCausal(),),
    (Bidirectional(),),
    (),
)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK", 16)


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("predicates", "settings"),
    [
        ((Causal(),), {"sinks": True, "soft_cap": 2.0}),
        ((Causal(), Window(9)), {"bias": RelativeBias(8, 20), "dims": (8, 4)}),
        slow((Banded(6),), {"bias": Alibi(), "heads": 2, "soft_cap": 2.0}),
        ((BlockCausal(),), {"blocks": 5, "dtype": jnp.bfloat16}),
    ],
)
def test_it_is_dense_attention_with_its_gradients(predicates, settings):
    call = make_call(predicates, [[9, 21, 13, 5], [48, 0]], **settings)
    assert_as_dense(call, blockwise_attention, 0.03 if "dtype" in settings else 1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_for_any_shape_it_is_dense_attention(data):
    draw = data.draw
    length = draw(st.integers(1, 70), label="length")
    segments = []
    for _ in range(draw(st.integers(1, 2), label="batch")):
        cuts = sorted(draw(st.sets(st.integers(0, length), max_size=3), label="cuts") | {0, length})
        row = list(np.diff(cuts))
        segments.append([*row, 0] if draw(st.booleans(), label="full") else row)
    kv_heads = draw(st.integers(1, 2), label="kv_heads")
    dtype = draw(st.sampled_from([jnp.float32, jnp.bfloat16]), label="dtype")
    call = make_call(
        draw(st.sampled_from(MASKS), label="mask"),
        segments,
        heads=kv_heads * draw(st.integers(1, 3), label="group"),
        kv_heads=kv_heads,
        dims=draw(st.sampled_from([(8, 8), (8, 4)]), label="dims"),
        bias=draw(st.sampled_from(BIASES), label="bias"),
        soft_cap=draw(st.sampled_from([None, 2.0]), label="soft_cap"),
        sinks=draw(st.booleans(), label="sinks"),
        dtype=dtype,
        blocks=draw(st.sampled_from([None, 5]), label="blocks"),
        seed=draw(st.integers(0, 9), label="seed"),
    )
    assert_as_dense(call, blockwise_attention, 1e-5 if dtype == jnp.float32 else 0.03)


def test_queries_and_keys_of_other_lengths_and_queries_without_a_key():
    """As a decoder attends to an encoder's output; its third segment read nothing."""
    call = make_call((), [[11, 14, 9, 6]])
    keys = packed_side([[20, 5, 0]])
    key, value = (jnp.concatenate([x, x], axis=2)[:, :, :25] for x in (call.key, call.value))
    mask = AttentionMask((), call.mask.queries, keys)
    crossing = dataclasses.replace(call, key=key, value=value, mask=mask)
    out = blockwise_attention(crossing)
    np.testing.assert_array_equal(out[:, :, 25:], 0)
    expected = dense_attention(crossing)[:, :, :25]
    np.testing.assert_allclose(out[:, :, :25], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("predicates", "computed"),
    [
        ((Causal(),), 8 * 9 // 2),
        # The block of the query and the one before it hold all keys less than 17 places back.
        ((Causal(), Window(17)), 8 + 7),
        ((Causal(), Window(18)), 8 + 7 + 6),
        ((Causal(), Chunked(16) | Window(2)), 8 + 7),
        ((Banded(1),), 8 + 2 * 7),
        ((BlockCausal(),), 64),
        ((EveryOther(), Causal()), 8 * 9 // 2),
    ],
)
def test_blocks_that_no_key_of_could_be_allowed_are_left_out(predicates, computed):
    side = packed_side([[100, 28]])
    rows, columns = blockwise._pairs(AttentionMask(predicates, side, side, same_tokens=True))
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == len(rows) == computed
    # Queries whose places are not known are held against every key.
    assert len(blockwise._pairs(AttentionMask(predicates, side, side))[0]) == 64


def test_memory_grows_with_the_length_and_not_with_its_square():
    def temporaries(attention, length):
        def loss(call):
            return attention(call).sum()

        call = make_call((Causal(),), [[length, 0]], heads=2)
        step: Any = jax.jit(jax.grad(loss, allow_int=True)).lower(call).compile()
        return step.memory_analysis().temp_size_in_bytes

    short, long = (temporaries(blockwise_attention, length) for length in (4096, 8192))
    assert long < 2.1 * short
    assert long < 0.05 * temporaries(dense_attention, 8192)


def test_layers_in_a_loop_keep_no_mask_of_all_blocks():
    """As it depends on no layer, JAX would take it out of the loop: of each head, for all pairs."""

    def temporaries(length):
        call = make_call((Bidirectional(),), [[length, 0]], heads=2)

        @jax.checkpoint
        def layer(x, scale):
            return x + blockwise_attention(dataclasses.replace(call, query=x * scale))

        def loss(scales):
            out, _ = jax.lax.scan(lambda x, scale: (layer(x, scale), None), call.query, scales)
            return out.sum()

        step: Any = jax.jit(jax.grad(loss)).lower(jnp.ones(3)).compile()
        return step.memory_analysis().temp_size_in_bytes

    assert temporaries(4096) < 2.2 * temporaries(2048)


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
def test_devices_attend_for_themselves_and_sum_gradients_of_what_they_share():
    """With one key head for all devices, and a table and sinks for every row."""
    call = make_call((Causal(),), [[30, 10]] * 2, kv_heads=1, bias=RelativeBias(8, 20), sinks=True)
    assert call.bias is not None
    expected = jax.jit(lambda call: outputs_and_gradients(call, dense_attention))(call)
    with jax.set_mesh(make_mesh(MeshConfig(data=2, tensor=2), jax.devices()[:4])):
        heads, rows = jax.P("data", "tensor"), jax.P("data")
        split = dataclasses.replace(
            call,
            query=jax.device_put(call.query, heads),
            key=jax.device_put(call.key, rows),
            value=jax.device_put(call.value, rows),
            sinks=jax.device_put(call.sinks, jax.P("tensor")),
            mask=jax.device_put(call.mask, rows),
            bias=dataclasses.replace(
                call.bias, table=jax.device_put(call.bias.table, jax.P(None, "tensor"))
            ),
        )
        found = jax.jit(lambda call: outputs_and_gradients(call, blockwise_attention))(split)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


LAYERS = (LayerConfig(), LayerConfig((Causal(), Window(5))))


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("mesh", ["mixed", "sequence"])
@pytest.mark.parametrize("kv_heads", [4, 1])
def test_a_model_gives_the_same_on_every_mesh(mesh, kv_heads):
    """Also with one key head for all devices, and with queries split over their length."""
    config = tiny_dense(
        layers=LAYERS, num_kv_heads=kv_heads, attention_sinks=True, position_bias=RelativeBias()
    )

    def gradients(layout, mesh):
        with jax.set_mesh(mesh):
            model = build(config, layout)
            batch = put_batch(random_batch(), mesh, Rules())
            step = jax.value_and_grad(lambda model: NextToken()(model, batch).total / 100)
            return jax.tree.map(np.asarray, jax.jit(step)(model))

    loss, found = gradients(Layout(attention="blockwise", remat="full"), make_mesh(MESHES[mesh]))
    expected_loss, expected = gradients(Layout(attention="dense"), one_device_mesh())
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
def test_it_attends_over_a_cache():
    config = tiny_dense(position_bias=RelativeBias(), num_layers=1)
    batch = one_row(40)
    expected = build(config)(batch).hidden
    model = build(config, Layout(attention="blockwise"))
    cache, parts = empty_cache(config, 1, 50, model.layout), []
    for part in (slice(0, 22), slice(22, 40)):
        output = model(jax.tree.map(lambda x, part=part: x[:, part], batch), cache)
        cache = output.cache
        parts.append(output.hidden)
    found = jnp.concatenate(parts, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
