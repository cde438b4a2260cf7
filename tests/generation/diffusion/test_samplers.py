"""Samplers on distributions whose score is known: orders of convergence, means and variances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.known_denoisers import Mixture

from jaxgen.generation.diffusion.base import Denoised
from jaxgen.generation.diffusion.grid import Grid
from jaxgen.generation.diffusion.integrating import integrate
from jaxgen.generation.diffusion.samplers import (
    Ddim,
    Ddpm,
    DpmSolver,
    Euler,
    Heun,
    Plms,
)
from jaxgen.ops.diffusion.betas import Betas
from jaxgen.ops.diffusion.schedules import Cosine, Edm, RectifiedFlow

MIXTURE = Mixture(np.array([[-1.0, 0.4], [1.0, -0.3], [0.2, 1.1]]), 0.35)
SCHEDULES = {"cosine": Cosine(least_alpha=0.01), "flow": RectifiedFlow(), "edm": Edm(1.0)}


def denoise(x, level):
    clean = MIXTURE.clean(x, level.alpha, level.sigma)
    return Denoised(clean, (x - level.alpha * clean) / level.sigma)


def sampled(sampler, schedule, rows=16, levels=None, dtype=jnp.float64):
    """What a sampler makes of fixed noise; up to a level where the score is smooth, not to 0."""
    grid = levels or sampler.grid(schedule)
    start = jax.random.normal(jax.random.key(0), (rows, 2), dtype)
    key = jax.random.key(1)

    def noise(number):
        return jax.random.normal(jax.random.fold_in(key, number), start.shape, dtype)

    return integrate(sampler, grid, denoise, start * grid.sigmas[0], noise)


ORDERS = [
    *((make, order, name) for name in SCHEDULES for make, order in ((Ddim, 1), (Heun, 2))),
    *((DpmSolver, 2, name) for name in SCHEDULES),
    (Euler, 1, "edm"),
    # Its weights are of even steps of the time of a process that keeps the variance.
    (Plms, 2, "cosine"),
]


@pytest.mark.parametrize(("make", "order", "name"), ORDERS)
def test_orders_of_convergence(make, order, name):
    """The error against a fine solution falls as steps^-order.

    The last step, to the picture, is of order 1 for all, which once costs no order.
    """
    schedule = SCHEDULES[name]

    def grid(steps):
        times = schedule.times(steps)
        if make is DpmSolver:  # Its order is in log alpha / sigma, which has no end at 0.
            times = np.linspace(schedule.last, 0.2, steps)
        if name == "edm":  # From the level of 0.2 on, as even steps of its own do not reach 0.
            times = np.linspace(20.0 ** (1 / 7), 0.2 ** (1 / 7), steps) ** 7
        alphas, sigmas = schedule.alpha_sigma(times)
        return Grid(np.append(alphas, 1.0), np.append(sigmas, 0.0), schedule.network_time(times))

    with jax.enable_x64(True):
        fine = sampled(Heun(), schedule, levels=grid(1200))
        counts = np.array([40, 80, 160])
        errors = [
            float(jnp.sqrt(jnp.mean((sampled(make(), schedule, levels=grid(int(n))) - fine) ** 2)))
            for n in counts
        ]
    slopes = -np.diff(np.log(errors)) / np.diff(np.log(counts))
    print(f"{make.__name__} on {name}: errors {errors}, orders {slopes}")
    assert slopes[-1] == pytest.approx(order, abs=0.35) or slopes[-1] > order


@pytest.mark.parametrize("name", ["cosine", "flow"])
@pytest.mark.parametrize("sampler", [Ddim(100, eta=1.0), Ddpm(100), Euler(100, ancestral=True)])
def test_what_is_sampled_has_the_mixture_s_moments(sampler, name):
    schedule = SCHEDULES[name]
    found = np.asarray(sampled(sampler, schedule, rows=4000, dtype=jnp.float32))
    mean = MIXTURE.means.mean(axis=0)
    covariance = np.cov(MIXTURE.means.T, bias=True) + MIXTURE.stddev**2 * np.eye(2)
    np.testing.assert_allclose(found.mean(axis=0), mean, atol=0.06)
    np.testing.assert_allclose(np.cov(found.T), covariance, atol=0.08)


def test_ddim_on_a_normal_is_its_closed_form():
    """Of x ~ N(m, s^2) each step maps x_t linearly; the variances it goes through multiply."""
    normal = Mixture(np.array([[0.7, 0.7]]), 0.5)
    grid = Ddim(20).grid(Cosine())

    def exact(x, level):
        clean = normal.clean(x, level.alpha, level.sigma)
        return Denoised(clean, (x - level.alpha * clean) / level.sigma)

    with jax.enable_x64(True):
        x = jnp.asarray([[0.3, -1.2], [1.4, 0.2]])
        found = integrate(Ddim(20), grid, exact, x, lambda number: x)
        expected = np.asarray(x)
        for a, s, a2, s2 in zip(
            grid.alphas, grid.sigmas, grid.alphas[1:], grid.sigmas[1:], strict=False
        ):
            variance = (a * 0.5) ** 2 + s**2
            # The covariance of x_t's next and itself, over the variance.
            slope = (a2 * a * 0.25 + s2 * s) / variance
            expected = a2 * 0.7 + slope * (expected - a * 0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.slow
def test_ancestral_samplers_are_one():
    """DDPM with the posterior's variance, DDIM with eta = 1, Euler's ancestral method."""
    for schedule in (Betas(), SCHEDULES["cosine"]):
        found = [
            np.asarray(sampled(one, schedule, dtype=jnp.float32))
            for one in (Ddpm(25), Ddim(25, eta=1.0), Euler(25, ancestral=True))
        ]
        np.testing.assert_allclose(found[1], found[0], atol=2e-4)
        np.testing.assert_array_equal(found[2], found[1])


@pytest.mark.parametrize("sampler", [Ddim(1), Ddpm(2), Plms(1), Heun(1), DpmSolver(2)])
def test_a_step_or_two_end_at_a_clean_picture(sampler):
    found = sampled(sampler, Cosine(), dtype=jnp.float32)
    assert jnp.isfinite(found).all() and jnp.abs(found).max() < 5
