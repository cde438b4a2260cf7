import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routing import route


def route_row(logits, is_token, k, normalize=True):
    """Routes of one row of tokens."""
    moe = MoEConfig(logits.shape[-1], k, mlp_dim=1, normalize_top_k=normalize)
    return route(jnp.array(logits)[None], jnp.array(is_token)[None], moe)


def numpy_route(logits, is_token, k, normalize):
    """Token by token, from the papers' definitions."""
    experts, weights = [], []
    counts, probability, squares = np.zeros(logits.shape[1]), np.zeros(logits.shape[1]), 0.0
    for row, real in zip(logits.astype(np.float64), is_token, strict=True):
        p = np.exp(row - row.max())
        p /= p.sum()
        best = np.argsort(-p)[:k]
        chosen = p[best] / (p[best].sum() if normalize else 1)
        experts.append(best if real else np.full(k, len(p)))
        weights.append(chosen)
        if real:
            counts[best] += 1
            probability += p
            squares += np.log(np.exp(row).sum()) ** 2
    tokens = is_token.sum()
    load = counts / (tokens * k)
    balance = len(load) * (load * probability / tokens).sum()
    return np.array(experts), np.array(weights), load, balance, squares / tokens


def test_against_a_loop_over_tokens():
    random = np.random.default_rng(0)
    logits = random.normal(size=(50, 6)).astype(np.float32)
    is_token = random.random(50) < 0.8
    for normalize in (False, True):
        routes, statistics = route_row(logits, is_token, 2, normalize)
        experts, weights, load, balance, z = numpy_route(logits, is_token, 2, normalize)
        np.testing.assert_array_equal(routes.experts, experts)
        np.testing.assert_allclose(routes.weights, weights, rtol=1e-5)
        np.testing.assert_allclose(statistics.load, load, rtol=1e-5)
        np.testing.assert_allclose(statistics.load_balance_loss, balance, rtol=1e-5)
        np.testing.assert_allclose(statistics.z_loss, z, rtol=1e-5)


def test_even_routing_has_balance_loss_one_and_collapse_has_more():
    even = jnp.log(jnp.eye(4) * 0.97 + 0.01)
    collapsed = jnp.tile(even[:1], (4, 1))
    everything = jnp.ones(4, bool)
    assert np.isclose(route_row(even, everything, 1)[1].load_balance_loss, 1.0)
    assert route_row(collapsed, everything, 1)[1].load_balance_loss > 3.5


def test_the_balance_loss_pushes_probability_away_from_the_crowded_expert():
    logits = jnp.array([[2.0, 0.0, 0.0]] * 5)
    gradient = jax.grad(lambda x: route_row(x, jnp.ones(5, bool), 1)[1].load_balance_loss)(logits)
    assert (gradient[:, 0] > 0).all() and (gradient[:, 1:] < 0).all()
