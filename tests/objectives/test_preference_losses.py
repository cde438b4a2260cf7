"""Losses of preferences on arrays: optima that are known, soft labels, and what is not there."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.objectives.preference_losses import (
    PAIR_METHODS,
    PairOptions,
    divergence_baseline,
    labelled_losses,
    log_odds,
    pair_losses,
)
from jaxgen.objectives.reward_losses import compare, step_losses


def minimised(loss, start, steps=600, rate=0.05):
    optimiser = optax.adam(rate)

    def step(_, carried):
        x, state = carried
        updates, state = optimiser.update(jax.grad(loss)(x), state)
        return optax.apply_updates(x, updates), state

    @jax.jit
    def run(x):
        return jax.lax.fori_loop(0, steps, step, (x, optimiser.init(x)))[0]

    return np.asarray(run(start))


def every_pair(count):
    return np.triu_indices(count, 1)


def test_the_optimum_of_dpo_is_the_reference_tilted_by_the_reward():
    """Of all pairs, labelled by Bradley-Terry: pi = pi_ref exp(r / beta) / Z (2305.18290, 4)."""
    beta, reward = 0.7, np.array([0.3, -0.4, 1.1, 0.0, -0.8], np.float32)
    reference = jax.nn.log_softmax(jnp.array([0.5, -0.2, 0.0, 1.0, -1.0]))
    first, second = every_pair(len(reward))
    preference = jax.nn.sigmoid(reward[first] - reward[second])

    def loss(logits):
        h = jax.nn.log_softmax(logits) - reference
        return jnp.mean(pair_losses("dpo", h[first], h[second], PairOptions(beta), preference))

    found = jax.nn.softmax(minimised(loss, jnp.zeros(5)))
    np.testing.assert_allclose(found, jax.nn.softmax(reference + reward / beta), atol=1e-4)


def test_the_optimum_of_ipo_is_a_difference_of_half_a_beta():
    h = minimised(
        lambda h: jnp.mean(pair_losses("ipo", h[:1], h[1:], PairOptions(0.25))), jnp.zeros(2)
    )
    np.testing.assert_allclose(h[0] - h[1], 2.0, atol=1e-3)
    soft = minimised(
        lambda h: jnp.mean(pair_losses("ipo", h[:1], h[1:], PairOptions(0.25), 0.75)), jnp.zeros(2)
    )
    np.testing.assert_allclose(soft[0] - soft[1], (2 * 0.75 - 1) * 2.0, atol=1e-3)


def test_conservative_dpo_stops_where_the_label_is_as_sure_as_it_is_right():
    """Labels flipped at a rate of 0.1: beta (h_w - h_l) = logit(0.9)."""
    h = minimised(
        lambda h: jnp.mean(pair_losses("dpo", h[:1], h[1:], PairOptions(2.0), 0.9)), jnp.zeros(2)
    )
    np.testing.assert_allclose(2.0 * (h[0] - h[1]), np.log(9), atol=1e-3)


def test_the_robust_loss_of_flipped_labels_is_the_loss_of_true_ones():
    """Its mean over labels of which a share is flipped; of DPO's loss it is not."""
    first, second = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    clean = pair_losses("dpo", first, second, PairOptions(1.0))
    kinds: Any = ("robust", "dpo")
    for kind, is_same in zip(kinds, (True, False), strict=True):
        noisy = pair_losses(kind, first, second, PairOptions(1.0, flip_rate=0.2), 1 - 0.2)
        assert np.allclose(noisy, clean, atol=1e-5) == is_same


@pytest.mark.parametrize("kind", PAIR_METHODS)
def test_a_soft_label_is_the_expectation_over_hard_ones(kind):
    first, second = np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32) - 3
    options = PairOptions(0.3, flip_rate=0.1)
    p = np.linspace(0, 1, 8, dtype=np.float32)
    hard = [pair_losses(kind, *pair, options) for pair in ((first, second), (second, first))]
    expected = p * hard[0] + (1 - p) * hard[1]
    np.testing.assert_allclose(pair_losses(kind, first, second, options, p), expected, rtol=1e-6)
    flipped = pair_losses(kind, second, first, options, 1 - p)
    np.testing.assert_allclose(flipped, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", PAIR_METHODS)
def test_losses_push_the_better_one_up(kind):
    """And APO-down pushes both down, the worse one more."""
    options = PairOptions(0.5)

    def loss(h):
        return pair_losses(kind, h[:1], h[1:], options)[0]

    better, worse = jax.grad(loss)(jnp.array([-1.0, -1.2]))
    assert better < worse
    if kind == "apo_down":
        larger = jax.grad(loss)(jnp.array([1.0, -4.0]))
        assert larger[0] > 0 and larger[1] >= 0


def test_odds_are_exact_near_both_ends_and_finite_at_them():
    p = np.array([1e-6, 0.3, 0.5, 0.9, 1 - 1e-5])
    found = log_odds(jnp.log(jnp.asarray(p, jnp.float32)))
    np.testing.assert_allclose(found, np.log(p / (1 - p)), rtol=5e-3)
    for end in (0.0, -1e-9, -200.0):
        value, gradient = jax.value_and_grad(log_odds)(end)
        assert np.isfinite(value) and np.isfinite(gradient)


def test_losses_of_labelled_completions_are_written_out():
    h = np.array([0.5, -1.0, 2.0], np.float32)
    good = np.array([1.0, 0.0, 0.0])

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    expected = [1 - sigmoid(0.1 * 0.2), 1.5 * (1 - sigmoid(0.1 * 1.3)), 1.5 * (1 - sigmoid(-0.17))]
    found = labelled_losses(h, good, 0.3, 0.1, 1.0, 1.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_baseline_is_a_mean_of_those_that_are_there_without_gradient():
    h, weights = jnp.array([1.0, 3.0, 100.0]), jnp.array([1.0, 1.0, 0.0])
    assert divergence_baseline(h, weights) == 2.0
    assert divergence_baseline(-h, weights) == 0.0
    assert not jax.grad(lambda h: divergence_baseline(h, weights))(h).any()


def test_bradley_terry_recovers_the_scores():
    """From the win rates of all pairs, up to a constant."""
    truth = np.array([0.8, -0.5, 0.1, 1.5, -1.9], np.float32)
    first, second = every_pair(5)
    wins = jax.nn.sigmoid(truth[first] - truth[second])
    there = np.ones((len(first), 2))

    def loss(r):
        rewards = jnp.stack([r[first], r[second]], axis=1)
        return jnp.mean(compare(rewards, there, there, wins).loss)

    found = minimised(loss, jnp.zeros(5))
    np.testing.assert_allclose(found - found.mean(), truth - truth.mean(), atol=2e-3)


def test_a_comparison_of_several_is_the_mean_over_its_pairs():
    """InstructGPT's weighting: a prompt of four completions counts as one of two does."""
    random = np.random.default_rng(2)
    rewards = random.normal(size=(3, 4)).astype(np.float32)
    scores = np.array([[3, 1, 2, 0], [1, 0, 0, 0], [2, 2, 1, 0]], np.float32)
    there = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], np.float32)
    found = compare(rewards, scores, there, ties="skip")
    for row in range(3):
        ranked = [
            np.log1p(np.exp(rewards[row, j] - rewards[row, i]))
            for i in range(4)
            for j in range(4)
            if there[row, i] and there[row, j] and scores[row, i] > scores[row, j]
        ]
        assert len(ranked) == (6, 1, 2)[row]
        np.testing.assert_allclose(found.loss[row], np.mean(ranked), rtol=1e-5)
    halves = compare(rewards, scores, there, ties="half")
    difference = rewards[2, 0] - rewards[2, 1]
    tie = (np.log1p(np.exp(-difference)) + np.log1p(np.exp(difference))) / 2
    np.testing.assert_allclose(halves.loss[2], (2 * found.loss[2] + tie) / 3, rtol=1e-5)
    np.testing.assert_array_equal(halves.accuracy, found.accuracy)


@pytest.mark.slow
def test_what_is_not_there_changes_nothing_and_may_be_anything():
    rewards = np.array([[0.3, -0.2, np.inf], [np.nan, 0.0, 0.0]], np.float32)
    scores = np.array([[1, 0, 5], [0, 0, 0]], np.float32)
    there = np.array([[1, 1, 0], [0, 0, 0]], np.float32)
    found = compare(rewards, scores, there)
    pair = compare(rewards[:1, :2], scores[:1, :2], there[:1, :2])
    np.testing.assert_array_equal(found.is_compared, [1, 0])
    np.testing.assert_allclose(found.loss, np.array([pair.loss[0], 0.0]), rtol=1e-6)
    gradient = jax.grad(lambda r: compare(r, scores, there).loss.sum())(jnp.asarray(rewards))
    assert np.isfinite(gradient).all() and gradient[0, :2].all()
    assert np.isnan(compare(rewards[1:], scores[:1], there[:1]).loss[0])


def test_equal_completions_of_a_prompt_compare_nothing():
    found = compare(np.ones((1, 3)), np.ones((1, 3)), np.ones((1, 3)))
    assert found.is_compared[0] == found.decided[0] == found.loss[0] == 0


def test_a_margin_asks_for_more_and_a_centre_pulls_to_it():
    rewards, scores, there = np.array([[1.0, 0.5]]), np.array([[2 / 3, 0.0]]), np.ones((1, 2))
    plain = compare(rewards, scores, there).loss[0]
    wider = compare(rewards, scores, there, margin_scale=1.0).loss[0]
    np.testing.assert_allclose(wider, np.log1p(np.exp(-(0.5 - 2 / 3))), rtol=1e-6)
    centred = compare(rewards, scores, there, centring=0.01).loss[0]
    np.testing.assert_allclose(centred - plain, 0.01 * 1.5**2, rtol=1e-4)


def test_steps_have_the_cross_entropy_of_their_scores():
    rewards, scores = np.array([0.3, -2.0, 5.0]), np.array([1.0, 0.0, 0.25])
    p = 1 / (1 + np.exp(-rewards))
    expected = -scores * np.log(p) - (1 - scores) * np.log(1 - p)
    np.testing.assert_allclose(step_losses(rewards, scores), expected, rtol=1e-5)
