"""What is predicted: every identity between targets, in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.known_denoisers import Mixture

from jaxgen.errors import ConfigError
from jaxgen.ops.diffusion.betas import Betas
from jaxgen.ops.diffusion.corruption import (
    Corruption,
    clean_of,
    corrupt,
    make_target,
    noise_of,
)
from jaxgen.ops.diffusion.schedules import Cosine, Edm, RectifiedFlow

TARGETS = ("x", "noise", "v", "flow")
LEVELS = {
    "preserving": Cosine().alpha_sigma(np.linspace(0.02, 0.98, 25)),
    "flow": RectifiedFlow().alpha_sigma(np.linspace(0.02, 0.98, 25)),
}


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_perfect_prediction_gives_picture_and_noise(target, levels):
    draws = np.random.default_rng(0)
    x, noise = draws.normal(size=(2, 25))
    alpha, sigma = LEVELS[levels]
    x_t = corrupt(x, noise, alpha, sigma)
    prediction = make_target(target, x, noise, alpha, sigma)
    np.testing.assert_allclose(clean_of(target, prediction, x_t, alpha, sigma), x, atol=1e-12)
    np.testing.assert_allclose(noise_of(target, prediction, x_t, alpha, sigma), noise, atol=1e-12)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize(("first", "second"), [*itertools.permutations(TARGETS, 2)])
def test_a_weight_is_the_error_of_another_target(first, second, levels):
    """An error in one prediction, measured in another: by change of variables."""
    draws = np.random.default_rng(1)
    x, noise, error = draws.normal(size=(3, 25))
    alpha, sigma = LEVELS[levels]
    x_t = corrupt(x, noise, alpha, sigma)
    wrong = make_target(first, x, noise, alpha, sigma) + error
    clean = clean_of(first, wrong, x_t, alpha, sigma)
    drawn = noise_of(first, wrong, x_t, alpha, sigma)
    moved = make_target(second, clean, drawn, alpha, sigma)
    expected = (moved - make_target(second, x, noise, alpha, sigma)) ** 2
    weight = Corruption(Cosine(), first, second).loss_weight(alpha, sigma)
    np.testing.assert_allclose(weight * error**2, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("target", "divided_by"), [("noise", lambda snr: snr), ("v", lambda snr: snr + 1), ("x", None)]
)
def test_min_snr_is_that_of_the_paper(target, divided_by):
    """2303.09556, 3.4: min(SNR, 5) of x, over SNR of the noise and over SNR + 1 of v."""
    alpha, sigma = LEVELS["preserving"]
    snr = (alpha / sigma) ** 2
    expected = np.minimum(snr, 5) / (1 if divided_by is None else divided_by(snr))
    found = Corruption(Cosine(), target, "min_snr").loss_weight(alpha, sigma)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_min_snr_is_finite_where_there_is_no_signal():
    """Where peers divide 0 by 0."""
    betas = Betas("scaled_linear", first=0.00085, last_beta=0.012, zero_terminal=True)
    alpha, sigma = betas.alpha_sigma(np.array([999.0]))
    assert Corruption(betas, "v", "min_snr").loss_weight(alpha, sigma) == 0
    with pytest.raises(ConfigError, match="there is no signal"):
        Corruption(betas, "noise")


def test_edm_is_v_with_its_sign_turned():
    """2206.00364, table 1: c_skip, c_out, c_in, and the weight of their network's error is 1."""
    draws = np.random.default_rng(2)
    stddevs = np.exp(np.linspace(-4, 4, 9))
    x, noise = 0.5 * draws.normal(size=9), draws.normal(size=9)
    schedule = Edm(data_stddev=0.5)
    alpha, sigma = schedule.alpha_sigma(stddevs)
    x_t = corrupt(x / 0.5, noise, alpha, sigma)
    noisy, variance = x + stddevs * noise, stddevs**2 + 0.25
    np.testing.assert_allclose(x_t, noisy / np.sqrt(variance), rtol=1e-12)
    c_skip, c_out = 0.25 / variance, stddevs * 0.5 / np.sqrt(variance)
    theirs = (x - c_skip * noisy) / c_out
    np.testing.assert_allclose(make_target("v", x / 0.5, noise, alpha, sigma), -theirs, atol=1e-12)


def test_the_mean_of_a_mixture_gives_its_score():
    """Tweedie: the score is (alpha E[x | x_t] - x_t) / sigma^2."""
    mixture = Mixture(np.array([[-1.0, 0.5], [1.0, -0.2]]), 0.3)
    with jax.enable_x64(True):
        x_t = jnp.asarray(np.random.default_rng(3).normal(size=(6, 2)))
        for alpha, sigma in ((0.9, 0.43), (0.3, 0.95)):
            clean = mixture.clean(x_t, alpha, sigma)
            score = (alpha * clean - x_t) / sigma**2
            np.testing.assert_allclose(score, mixture.score(x_t, alpha, sigma), rtol=1e-10)


def test_a_learned_variance_is_of_discrete_steps():
    with pytest.raises(ConfigError, match="discrete process"):
        Corruption(RectifiedFlow(), "flow", learned_variance=True)
