"""The optimal variance of a step: against closed forms, and errors as they are measured."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.known_denoisers import Mixture

from jaxgen.errors import ConfigError
from jaxgen.generation.diffusion.base import Denoised
from jaxgen.generation.diffusion.clean_errors import CleanErrors, measure_clean_errors
from jaxgen.generation.diffusion.integrating import integrate
from jaxgen.generation.diffusion.samplers import Ddim, Ddpm
from jaxgen.ops.diffusion.corruption import Corruption
from jaxgen.ops.diffusion.schedules import Cosine, RectifiedFlow
from jaxgen.sharding.layout import Layout

STDDEV, ROWS = 0.5, 20_000
NORMAL = Mixture(np.array([[0.7, 0.7]]), STDDEV)
SCHEDULES = {"cosine": Cosine(least_alpha=0.01), "flow": RectifiedFlow()}


def known_errors(grid):
    """The variance of x given x_t, of a normal: that of the best guess."""
    own = (grid.alphas * STDDEV) ** 2
    errors = STDDEV**2 * grid.sigmas**2 / (own + grid.sigmas**2)
    return CleanErrors(tuple(grid.times[::-1].tolist()), tuple(errors[-2::-1].tolist()))


def found_variance(sampler, schedule):
    """The variance of what a sampler makes, and that of the truth's best guess at its last step."""
    grid = sampler.grid(schedule)

    def denoise(x, level):
        clean = NORMAL.clean(x, level.alpha, level.sigma)
        return Denoised(clean, (x - level.alpha * clean) / level.sigma)

    def noise(number):
        return jax.random.normal(jax.random.fold_in(jax.random.key(1), number), (ROWS, 2))

    made = integrate(sampler, grid, denoise, noise(99) * grid.sigmas[0], noise)
    alpha, sigma = grid.alphas[-2], grid.sigmas[-2]
    return float(jnp.var(made)), alpha**2 * STDDEV**4 / ((alpha * STDDEV) ** 2 + sigma**2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_few_steps_have_the_right_variance_by_the_optimal_one_alone(name):
    """Steps of a normal are normals: of the optimal variance they are the true ones."""
    schedule = SCHEDULES[name]
    errors = known_errors(Ddpm(4).grid(schedule))
    optimal = (
        Ddpm(4, variance="optimal", errors=errors),
        *(Ddim(4, eta=eta, errors=errors) for eta in (0.0, 0.5, 1.0)),
    )
    for sampler in optimal:
        found, expected = found_variance(sampler, schedule)
        assert found == pytest.approx(expected, rel=0.03), sampler
    small, large = (
        found_variance(Ddpm(4, variance=kind), schedule)[0] / expected
        for kind in ("small", "large")
    )
    assert small < 0.9 and large > 1.1, (small, large)


class Knows:
    """A model whose guesses are the best there are."""

    layout = Layout()

    def __init__(self, mixture, schedule):
        self.mixture, self.schedule = mixture, schedule

    def clean(self, batch):
        return batch

    def predict(self, x_t, time, batch):
        del batch
        alpha, sigma = self.schedule.alpha_sigma(time[0] / 1000)
        return (x_t - alpha * self.mixture.clean(x_t, alpha, sigma)) / sigma


jax.tree_util.register_static(Knows)


def test_measured_errors_are_those_of_the_expected_noise():
    """(sigma / alpha)^2 (1 - E |n|^2), which Analytic-DPM asks for."""
    mixture = Mixture(np.array([[-1.0, 0.4], [1.0, -0.3], [0.2, 1.1]]), 0.35)
    schedule, draws = Cosine(), np.random.default_rng(0)
    own = mixture.means[draws.integers(0, 3, ROWS)] + 0.35 * draws.normal(size=(ROWS, 2))
    grid = Ddpm(4).grid(schedule)
    model: Any = Knows(mixture, schedule)
    found = measure_clean_errors(
        model, Corruption(schedule, "noise"), grid, jnp.asarray(own), jax.random.key(0)
    )
    score = jax.jit(mixture.score)
    assert found.times == tuple(sorted(grid.times.tolist()))
    levels = zip(grid.alphas, grid.sigmas, grid.times, strict=False)
    for (alpha, sigma, time), error in zip(levels, found.errors[::-1], strict=True):
        if alpha < 0.05:  # What is divided by it is lost in the draws.
            continue
        x = alpha * own + sigma * draws.normal(size=own.shape)
        noise = -sigma * score(jnp.asarray(x), alpha, sigma)
        expected = (sigma / alpha) ** 2 * (1 - float(jnp.mean(noise**2)))
        assert error == pytest.approx(expected, rel=0.05), time


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ddpm(variance="optimal"), "give both, or neither"),
        (lambda: Ddpm(errors=CleanErrors((0.0,), (1.0,))), "give both, or neither"),
        (lambda: CleanErrors((), ()), "0 times and 0 errors"),
        (lambda: CleanErrors((1.0, 2.0), (0.1,)), "2 times and 1 errors"),
        (lambda: CleanErrors((5.0, 1.0), (0.1, 0.1)), "rising order"),
    ],
)
def test_errors_that_no_step_can_use_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
