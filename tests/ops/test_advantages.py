"""Advantages: by hand, by closed forms, and what is masked is in no statistic."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgen.ops.advantages import (
    EPSILON,
    generalised_advantages,
    group_relative,
    kl_estimates,
    leave_one_out,
    token_rewards,
    whitened,
)

ALL = np.ones((1, 4), bool)


def test_a_group_is_compared_with_its_mean():
    rewards = np.array([[1.0, 0, 0, 1]])
    np.testing.assert_allclose(group_relative(rewards, ALL, None), [[0.5, -0.5, -0.5, 0.5]])
    # The unbiased deviation is sqrt(4 * .25 / 3).
    scaled = 0.5 / (np.sqrt(1 / 3) + EPSILON)
    np.testing.assert_allclose(group_relative(rewards, ALL), [[scaled, -scaled, -scaled, scaled]])
    np.testing.assert_allclose(leave_one_out(rewards, ALL), [[2 / 3, -2 / 3, -2 / 3, 2 / 3]])


def test_equal_rewards_teach_nothing():
    for rewards in ([[1.0] * 4], [[0.0] * 4]):
        assert not group_relative(np.array(rewards), ALL).any()
        assert not leave_one_out(np.array(rewards), ALL).any()


def test_what_was_not_scored_is_in_no_statistic():
    rewards = np.array([[1.0, 0, np.nan, 1], [np.nan, 5, np.nan, np.nan]])
    there = np.isfinite(rewards)
    alone = group_relative(rewards[:1, [0, 1, 3]], np.ones((1, 3), bool))
    found = group_relative(rewards, there)
    np.testing.assert_allclose(found[0, [0, 1, 3]], alone[0])
    assert found[0, 2] == 0 and not found[1].any()
    assert not leave_one_out(rewards, there)[1].any()


def test_leave_one_out_is_each_less_the_mean_of_the_others():
    rewards = np.random.default_rng(0).normal(size=(3, 5))
    expected = [[row[i] - np.delete(row, i).mean() for i in range(5)] for row in rewards]
    np.testing.assert_allclose(leave_one_out(rewards, np.ones((3, 5), bool)), expected)


def test_generalised_advantages_by_hand():
    """Three tokens, a reward of 1 at the last: worked out on paper."""
    rewards = np.array([0.0, 0.0, 1.0, 9.0])
    values = np.array([0.5, 0.4, 0.2, 7.0])
    mask = np.array([True, True, True, False])
    gamma, lam = 0.9, 0.5
    last = 1 - 0.2
    middle = 0.9 * 0.2 - 0.4 + 0.45 * last
    first = 0.9 * 0.4 - 0.5 + 0.45 * middle
    found, returns = generalised_advantages(rewards, values, mask, gamma, lam)
    np.testing.assert_allclose(found, [first, middle, last, 0])
    np.testing.assert_allclose(returns, [first + 0.5, middle + 0.4, 1.0, 0])


@given(st.integers(1, 6), st.integers(0, 3), st.floats(0.5, 1.0))
def test_with_lambda_1_the_advantage_is_the_discounted_return_less_the_value(count, before, gamma):
    random = np.random.default_rng(count)
    rewards, values = random.normal(size=(2, 10))
    mask = (np.arange(10) >= before) & (np.arange(10) < before + count)
    found, _ = generalised_advantages(rewards, values, mask, gamma, 1.0)
    for place in np.flatnonzero(mask):
        ahead = np.flatnonzero(mask & (np.arange(10) >= place))
        total = sum(gamma ** (at - place) * rewards[at] for at in ahead)
        assert found[place] == pytest.approx(total - values[place])


def test_the_score_comes_at_the_last_token_and_each_token_pays():
    mask = np.array([[[False, True, True, False]]])
    found = token_rewards(np.array([[2.0]]), mask, np.full((1, 1, 4), 0.25))
    np.testing.assert_allclose(found, [[[0, -0.25, 1.75, 0]]])


def test_whitening_leaves_padding_out():
    values, mask = np.array([[1.0, 2.0, 3.0, 99.0]]), np.array([[True, True, True, False]])
    np.testing.assert_allclose(whitened(values, mask), [[-1, 0, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(whitened(values, mask, keeps_mean=True), [[1, 2, 3, 0]], atol=1e-6)


def test_estimates_of_kl_have_the_exact_kl_as_their_mean():
    """Over a small distribution, enumerated: k1 and k3 are unbiased, k2 is half a second moment."""
    random = np.random.default_rng(3)
    policy, reference = random.dirichlet(np.ones(6), 2)
    log_ratio = np.log(policy / reference)
    exact = np.sum(policy * log_ratio)
    for estimator in ("k1", "k3"):
        assert np.sum(policy * kl_estimates(log_ratio, estimator)) == pytest.approx(exact)
    assert np.sum(policy * kl_estimates(log_ratio, "k2")) == pytest.approx(
        np.sum(policy * log_ratio**2) / 2
    )
    assert (kl_estimates(log_ratio, "k3") >= 0).all()


def test_the_estimator_of_leave_one_out_has_the_gradient_of_the_mean_reward():
    """A bandit of three arms: over all pairs of draws its mean is the enumerated gradient."""
    logits, rewards = np.array([0.3, -0.5, 0.1]), np.array([1.0, 0.2, -0.4])
    probability = np.exp(logits) / np.exp(logits).sum()
    exact = probability * (rewards - probability @ rewards)
    mean = np.zeros(3)
    for pair in itertools.product(range(3), repeat=2):
        advantages = leave_one_out(rewards[None, list(pair)], np.ones((1, 2), bool))[0]
        gradient = advantages @ (np.eye(3)[list(pair)] - probability)
        mean += probability[pair[0]] * probability[pair[1]] * gradient / 2
    np.testing.assert_allclose(mean, exact, atol=1e-12)
