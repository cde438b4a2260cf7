"""The noise scale against gradients of a known mean and covariance."""

import math

import numpy as np
import pytest

from jaxgen.errors import ConfigError
from jaxgen.scaling.noise_scale import (
    NoiseMeans,
    critical_batch,
    examples_at,
    gradient_and_noise,
    steps_at,
    update_noise,
)


def test_exact_where_expectations_are_given():
    """E|G_B|^2 = |G|^2 + tr(Sigma) / B, with |G|^2 = 3 and tr(Sigma) = 40."""
    gradient, noise = gradient_and_noise(3 + 40 / 4, 3 + 40 / 32, 4, 32)
    assert gradient == pytest.approx(3)
    assert noise == pytest.approx(40)


def test_estimates_are_unbiased_in_simulation():
    random = np.random.default_rng(0)
    mean, deviations = random.normal(size=50) * 0.3, np.linspace(0.5, 3, 50)
    true_gradient, true_noise = mean @ mean, deviations @ deviations
    small, parts, trials = 8, 4, 4000
    noise = random.normal(size=(trials, parts, 50)) * deviations / small**0.5
    smaller = mean + noise
    bigger = smaller.mean(axis=1)
    means, found = NoiseMeans(), []
    for parts_of, whole in zip(smaller, bigger, strict=True):
        pair = gradient_and_noise(
            float(np.mean(np.sum(parts_of**2, axis=-1))), float(whole @ whole), small, 4 * small
        )
        found.append(pair)
        means = update_noise(means, *pair, decay=0.999)
    for values, truth in zip(np.array(found).T, (true_gradient, true_noise), strict=True):
        error = values.std(ddof=1) / trials**0.5
        assert abs(values.mean() - truth) < 4 * error
        assert error < 0.02 * truth
    assert means.noise_scale == pytest.approx(true_noise / true_gradient, rel=0.1)
    assert means.variance == pytest.approx(true_noise, rel=0.05)


def test_means_are_corrected_for_their_start():
    means = update_noise(NoiseMeans(), 2.0, 10.0, decay=0.9)
    assert means.squared_gradient == pytest.approx(2)
    assert means.noise_scale == pytest.approx(5)
    means = update_noise(means, 4.0, 10.0, decay=0.9)
    assert means.squared_gradient == pytest.approx((0.09 * 2 + 0.1 * 4) / 0.19)


def test_no_answer_without_a_gradient():
    assert math.isnan(NoiseMeans().noise_scale)
    assert math.isnan(update_noise(NoiseMeans(), -1.0, 2.0, 0.9).noise_scale)


def test_trade_off_of_steps_and_examples():
    """(S / S_min - 1)(E / E_min - 1) = 1, at every batch; at B_crit both are twice the least."""
    critical = critical_batch(6000.0, 20.0)
    assert critical == 300
    for batch in (10.0, 300.0, 4000.0):
        steps, examples = steps_at(batch, 20.0, critical), examples_at(batch, 6000.0, critical)
        assert (steps / 20 - 1) * (examples / 6000 - 1) == pytest.approx(1)
        assert examples == pytest.approx(steps * batch)
    assert steps_at(300.0, 20.0, critical) == 40


def test_batches_must_be_of_two_sizes():
    with pytest.raises(ConfigError, match="big_batch=8"):
        gradient_and_noise(1, 1, 8, 8)
    with pytest.raises(ConfigError, match="decay=1"):
        update_noise(NoiseMeans(), 1, 1, 1)
