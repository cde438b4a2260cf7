import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import ConfigError
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.ops.routing import route, router_losses


def tokens_of(is_token):
    return RoutedTokens(jnp.array(is_token, jnp.int32))


def route_row(logits, is_token, k, normalize=True):
    """Routes of one row of tokens."""
    moe = MoEConfig(logits.shape[-1], k, mlp_dim=1, normalize_top_k=normalize)
    return route(jnp.array(logits)[None], tokens_of(jnp.array(is_token)[None]), moe)


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_balance_loss_pushes_probability_away_from_the_crowded_expert():
    logits = jnp.array([[2.0, 0.0, 0.0]] * 5)
    gradient = jax.grad(lambda x: route_row(x, jnp.ones(5, bool), 1)[1].load_balance_loss)(logits)
    assert (gradient[:, 0] > 0).all() and (gradient[:, 1:] < 0).all()


@pytest.mark.slow
def test_a_full_expert_drops_what_comes_later_and_first_choices_go_first():
    """GShard, 2006.16668, algorithm 1: a queue of first choices, then one of second ones."""
    moe = MoEConfig(4, 2, mlp_dim=1, capacity_factor=1.0)
    random = np.random.default_rng(0)
    logits = random.normal(size=(3, 10, 4)).astype(np.float32) + np.array(
        [1.5, 0, 0, 0], np.float32
    )
    is_token = random.random((3, 10)) < 0.9
    routes, statistics = route(jnp.array(logits), tokens_of(is_token), moe, is_training=True)
    free, _ = route(jnp.array(logits), tokens_of(is_token), moe)
    expected, dropped = np.full((3, 10, 2), 4), 0
    for row in range(3):
        room = np.full(4, 5)  # 10 tokens * 2 choices / 4 experts.
        for choice in range(2):
            for token in range(10):
                expert = int(np.argsort(-logits[row, token])[choice])
                if not is_token[row, token]:
                    continue
                if room[expert]:
                    room[expert] -= 1
                    expected[row, token, choice] = expert
                else:
                    dropped += 1
    np.testing.assert_array_equal(routes.experts, expected.reshape(30, 2))
    assert dropped > 0
    np.testing.assert_allclose(statistics.dropped, dropped / (2 * is_token.sum()), rtol=1e-6)
    np.testing.assert_allclose(routes.weights, free.weights)
    assert (np.asarray(free.experts)[is_token.reshape(30)] < 4).all()


def test_experts_choose_their_best_tokens():
    """2202.09368: each expert takes the same number of tokens, those of its largest scores."""
    moe = MoEConfig(4, 2, mlp_dim=1, router="expert_choice", capacity_factor=1.0)
    logits = np.random.default_rng(0).normal(size=(2, 12, 4)).astype(np.float32)
    is_token = np.ones((2, 12), bool)
    is_token[1, 9:] = False
    routes, statistics = route(jnp.array(logits), tokens_of(is_token), moe)
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    experts = np.asarray(routes.experts).reshape(2, 12, 4)
    weights = np.asarray(routes.weights).reshape(2, 12, 4)
    for row in range(2):
        for expert in range(4):
            best = [t for t in np.argsort(-scores[row, :, expert]) if is_token[row, t]][:6]
            assert sorted(np.flatnonzero(experts[row, :, expert] == expert)) == sorted(best)
    np.testing.assert_allclose(weights, scores, rtol=1e-5)
    np.testing.assert_allclose(statistics.load, 0.25)


@pytest.mark.slow
def test_sigmoid_scores_with_a_bias_that_only_chooses_within_groups():
    """DeepSeek-V3, 2412.19437, eqs. 13-16, with its node-limited routing."""
    moe = MoEConfig(
        8, 2, mlp_dim=1, scores="sigmoid", scale=2.5, groups=4, groups_per_token=2,
        bias_balancing=True,
    )  # fmt: skip
    random = np.random.default_rng(0)
    logits = random.normal(size=(40, 8)).astype(np.float32)
    bias = random.normal(size=8).astype(np.float32)
    everything = jnp.ones((1, 40), bool)
    routes, _ = route(jnp.array(logits)[None], tokens_of(everything), moe, jnp.array(bias))
    changed = 0
    for token in range(40):
        score = 1 / (1 + np.exp(-logits[token].astype(np.float64)))
        by_group = (score + bias).reshape(4, 2)
        best = np.argsort(-by_group.sum(axis=1))[:2]
        allowed = np.isin(np.arange(8) // 2, best)
        chosen = np.argsort(-np.where(allowed, score + bias, -np.inf))[:2]
        np.testing.assert_array_equal(routes.experts[token], chosen)
        expected = 2.5 * score[chosen] / score[chosen].sum()
        np.testing.assert_allclose(routes.weights[token], expected, rtol=1e-5)
        changed += set(chosen) != set(np.argsort(-score)[:2])
    assert changed > 5


def test_a_choosing_bias_has_no_gradient():
    moe = MoEConfig(4, 1, mlp_dim=1, scores="sigmoid", bias_balancing=True, normalize_top_k=False)
    logits = jnp.array(np.random.default_rng(0).normal(size=(1, 9, 4)), jnp.float32)

    def total(bias):
        return route(logits, tokens_of(jnp.ones((1, 9), bool)), moe, bias)[0].weights.sum()

    assert not jax.grad(total)(jnp.ones(4)).any()


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_a_second_expert_is_used_with_a_probability_that_grows_with_its_share(threshold):
    """GShard, 2006.16668, algorithm 1: where twice its share exceeds a uniform number."""
    moe = MoEConfig(4, 2, mlp_dim=1, second_threshold=threshold)
    random = np.random.default_rng(0)
    logits = random.normal(size=(4, 30, 4)).astype(np.float32) * 2
    draws = random.random((4, 30)).astype(np.float32)
    is_token = random.random((4, 30)) < 0.9
    inputs = jnp.array(logits), tokens_of(is_token), moe
    routes, statistics = route(*inputs, is_training=True, draws=jnp.array(draws))
    always, _ = route(*inputs)
    probabilities = np.exp(logits.astype(np.float64))
    ordered = -np.sort(-probabilities, axis=-1).reshape(-1, 4)
    share = ordered[:, 1] / (ordered[:, 0] + ordered[:, 1])
    is_used = share / threshold > draws.reshape(-1)
    expected = np.where(is_used, np.asarray(always.experts)[:, 1], 4)
    np.testing.assert_array_equal(routes.experts[:, 0], always.experts[:, 0])
    np.testing.assert_array_equal(routes.experts[:, 1], expected)
    np.testing.assert_allclose(routes.weights, always.weights)
    assert 0 < is_used.mean() < 1
    used = is_token.sum() + (is_used & is_token.reshape(-1)).sum()
    assert float(statistics.assigned.sum()) == used


@pytest.mark.slow
def test_a_second_expert_that_is_left_out_takes_no_room():
    moe = MoEConfig(2, 2, mlp_dim=1, capacity_factor=0.5, second_threshold=0.5)
    logits = jnp.array([[[1.0, 0.0]] * 2 + [[0.0, 1.0]]])  # room for two of a row's three tokens
    inputs = logits, tokens_of(np.ones((1, 3), bool)), moe
    always, _ = route(*inputs, is_training=True)
    assert always.experts.tolist() == [[0, 1], [0, 2], [1, 2]]
    never, _ = route(*inputs, is_training=True, draws=jnp.ones((1, 3)))
    assert never.experts.tolist() == [[0, 2], [0, 2], [1, 2]]


def test_the_second_threshold_is_for_two_choices():
    with pytest.raises(ConfigError, match=r"second_threshold=0.5.*experts_per_token=2"):
        MoEConfig(4, 1, mlp_dim=1, second_threshold=0.5)


@pytest.mark.slow
def test_the_balance_loss_of_sequences():
    """DeepSeek-V3, 2412.19437, eqs. 17-20, of each row by itself, and the figures of rows."""
    moe = MoEConfig(6, 2, mlp_dim=1, scores="sigmoid", sequence_balance_weight=0.1)
    random = np.random.default_rng(0)
    logits = random.normal(size=(3, 20, 6)).astype(np.float32)
    is_token = random.random((3, 20)) < 0.8
    is_token[2] = False
    _, statistics = route(jnp.array(logits), tokens_of(is_token), moe)
    losses, entropies, counts = [], [], np.zeros(6)
    for row in range(2):
        tokens = np.flatnonzero(is_token[row])
        scores = 1 / (1 + np.exp(-logits[row, tokens].astype(np.float64)))
        chosen = np.zeros_like(scores)
        np.put_along_axis(chosen, np.argsort(-scores, axis=1)[:, :2], 1.0, axis=1)
        normed = scores / scores.sum(axis=1, keepdims=True)
        f = 6 / (2 * len(tokens)) * chosen.sum(axis=0)
        losses.append((f * normed.sum(axis=0) / len(tokens)).sum())
        entropies += (-normed * np.log(normed)).sum(axis=1).tolist()
        counts += chosen.sum(axis=0)
    np.testing.assert_allclose(statistics.sequence_balance_loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(statistics.entropy, np.mean(entropies), rtol=1e-5)
    violation = counts.max() / counts.mean() - 1
    np.testing.assert_allclose(statistics.max_violation, violation, rtol=1e-5)
    without = MoEConfig(6, 2, mlp_dim=1, load_balance_weight=0.01, router_z_weight=0.0)
    weights = [dataclasses.replace(without, sequence_balance_weight=w) for w in (0.0, 0.1)]
    bare, weighed = (router_losses({"router": (one, statistics)}) for one in weights)
    assert bare is not None and weighed is not None
    assert "router/sequence_balance_loss" not in bare.means
    added = weighed.loss - bare.loss
    np.testing.assert_allclose(added, 0.1 * np.mean(losses), rtol=1e-5)


def test_assignments_are_counted_by_task():
    moe = MoEConfig(4, 2, mlp_dim=1)
    random = np.random.default_rng(0)
    logits = jnp.array(random.normal(size=(2, 15, 4)), jnp.float32)
    segments, tasks = random.integers(0, 3, (2, 15)), random.integers(0, 3, (2, 15))
    tokens = RoutedTokens(jnp.array(segments), jnp.array(tasks), num_tasks=3)
    routes, statistics = route(logits, tokens, moe)
    expected = np.zeros((3, 4))
    for task, experts in zip(tasks.reshape(-1), np.asarray(routes.experts), strict=True):
        for expert in experts[experts < 4]:
            expected[task, expert] += 1
    np.testing.assert_array_equal(statistics.by_task, expected)
    np.testing.assert_array_equal(statistics.by_task.sum(axis=0), statistics.assigned)
