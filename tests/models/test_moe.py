"""The sparse layer against a loop over tokens and their experts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from support.helpers import build, layer_parameters, tiny_moe

from jaxgen.models.block_config import LayerConfig
from jaxgen.models.moe import MoE
from jaxgen.ops.attention.masks import Causal, Window
from jaxgen.ops.dispatch import from_rows, gather_rows, make_dispatch, to_rows
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.sharding.layout import Layout, using


@pytest.fixture(autouse=True)
def under_a_layout():
    """The layers are used here without the root that would bring their layout."""
    with using(Layout()):
        yield


def numpy_moe(layer, x, segment_ids):
    """[batch, length, embed] float64, one token and one expert at a time."""
    weights = {
        name: np.asarray(getattr(layer, name)[...], np.float64)
        for name in ("router", "up", "gate", "down")
    }
    out = np.zeros(x.shape)
    for place in np.argwhere(segment_ids > 0):
        token = np.asarray(x, np.float64)[tuple(place)]
        logits = token @ weights["router"]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        best = np.argsort(-p)[: layer.moe.experts_per_token]
        for expert in best:
            gate = token @ weights["gate"][expert]
            hidden = gate / (1 + np.exp(-gate)) * (token @ weights["up"][expert])
            out[tuple(place)] += p[expert] / p[best].sum() * (hidden @ weights["down"][expert])
    return out


def test_against_a_loop_over_tokens_and_experts():
    layer = MoE(tiny_moe(), nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 12, 32))
    segment_ids = np.array([[1] * 9 + [0] * 3, [1] * 12], np.int32)
    y, statistics = layer(x, RoutedTokens(jnp.array(segment_ids)))
    np.testing.assert_allclose(y, numpy_moe(layer, x, segment_ids), rtol=1e-4, atol=1e-5)
    assert np.isclose(statistics.load.sum(), 1.0)
    assert (np.asarray(y)[segment_ids == 0] == 0).all()


@pytest.mark.slow
def test_no_token_is_dropped_when_all_choose_one_expert():
    layer = MoE(tiny_moe(), nnx.Rngs(0))
    # Equal rows of the router would tie; a large first column wins for every token of ones.
    layer.router = nnx.Param(
        jnp.zeros((32, 8)).at[:, 0].set(1.0).at[:, 1].set(0.5), logical_axes=("embed", None)
    )
    x = jnp.ones((1, 200, 32))
    y, statistics = layer(x, RoutedTokens(jnp.ones((1, 200), jnp.int32)))
    assert statistics.load.tolist() == [0.5, 0.5] + [0.0] * 6
    np.testing.assert_allclose(y[0, -1], numpy_moe(layer, x[:, :1], np.ones((1, 1)))[0, 0],
                               rtol=1e-4, atol=1e-5)  # fmt: skip
    np.testing.assert_allclose(y, jnp.broadcast_to(y[:, :1], y.shape), rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    experts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=7, max_size=7),
    first=st.sampled_from([0, 2, 4]),
)
def test_rows_hold_the_tokens_of_their_experts(experts, first):
    dispatch, blocks = make_dispatch(jnp.array(experts), first, 2, block_rows=4)
    tokens = jnp.arange(1.0, 8.0)[:, None]
    rows = np.asarray(to_rows(tokens, dispatch))[:, 0]
    for block, group in enumerate(np.asarray(blocks.block_groups)):
        held = rows[4 * block : 4 * block + 4]
        if block < blocks.num_blocks:
            assert all(first + group in experts[int(token) - 1] for token in held if token)
    here = sum(expert in (first, first + 1) for pair in experts for expert in pair)
    assert (rows > 0).sum() == here
    back = from_rows(jnp.array(rows)[:, None], jnp.ones((7, 2)), dispatch)[:, 0]
    for token, pair in enumerate(experts):
        assert back[token] == (token + 1) * sum(expert in (first, first + 1) for expert in pair)


@pytest.mark.parametrize("seed", range(3))
def test_the_gathers_gradient_is_that_of_indexing(seed):
    random = np.random.default_rng(seed)
    x = jnp.array(random.normal(size=(5, 3)), jnp.float32)
    index = random.permutation(np.repeat(np.arange(6), 2))  # 5 is past the end.
    inverse = np.array([np.flatnonzero(index == row) for row in range(5)])
    cotangent = jnp.array(random.normal(size=(12, 3)), jnp.float32)

    def plain(x):
        return jnp.vdot(jnp.where((index < 5)[:, None], x[np.minimum(index, 4)], 0), cotangent)

    def known(x):
        return jnp.vdot(gather_rows(x, jnp.array(index), jnp.array(inverse)), cotangent)

    np.testing.assert_allclose(known(x), plain(x), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(known)(x), jax.grad(plain)(x), rtol=1e-6)


def test_router_biases_move_against_the_load_of_their_own_layer():
    config = tiny_moe(
        num_layers=6,
        layers=(LayerConfig(), LayerConfig(mask=(Causal(), Window(4)))),
        moe=MoEConfig(
            4, 1, mlp_dim=8, first=1, scores="sigmoid", bias_balancing=True, balance_rate=0.01
        ),
    )
    model = build(config)
    load = np.random.default_rng(0).dirichlet(np.ones(4), size=5).astype(np.float32)
    layers = layer_parameters(model.after_update({"router/load": jnp.array(load)}))["layers"]
    assert "router_bias" not in str(layers[0])
    for layer, shares in zip(layers[1:], load, strict=True):
        expected = [0.01 if share < 0.25 else -0.01 for share in shares]
        np.testing.assert_allclose(layer["feed_forward"]["router_bias"], expected, rtol=1e-6)
    untouched = layer_parameters(model)["layers"][1]["feed_forward"]["router_bias"]
    assert not untouched.any()
