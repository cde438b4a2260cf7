"""Schedules against closed forms and figures of the papers, in float64."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import ConfigError
from jaxgen.ops.diffusion.betas import Betas
from jaxgen.ops.diffusion.schedules import Cosine, Edm, RectifiedFlow

ALL = {
    "linear": Betas(),
    "scaled": Betas("scaled_linear", first=0.00085, last_beta=0.012),
    "cosine_betas": Betas("cosine"),
    "zero_terminal": Betas("scaled_linear", first=0.00085, last_beta=0.012, zero_terminal=True),
    "cosine": Cosine(),
    "shifted": Cosine(shift=2 * math.log(64 / 256)),
    "flow": RectifiedFlow(),
    "flow_shifted": RectifiedFlow(shift=3.0),
    "edm": Edm(),
}


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("flow")])
def test_variance_is_preserved(name):
    schedule = ALL[name]
    alpha, sigma = schedule.alpha_sigma(schedule.times(50, None))
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_times_lead_from_noise_to_the_picture(name):
    schedule = ALL[name]
    alpha, sigma = schedule.alpha_sigma(schedule.times(40, None))
    with np.errstate(divide="ignore"):
        assert (np.diff(alpha / sigma) > 0).all()
    assert alpha[0] < 0.1 and sigma[0] > 0.99


@pytest.mark.parametrize("name", ALL)
def test_traced_times_are_those_of_numpy(name):
    schedule = ALL[name]
    times = schedule.times(20, None)
    for ours, theirs in zip(
        schedule.alpha_sigma(jnp.asarray(times, jnp.float32)),
        schedule.alpha_sigma(times),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_betas_are_those_of_the_papers():
    np.testing.assert_allclose(Betas().betas, np.linspace(1e-4, 0.02, 1000), rtol=1e-9)
    scaled = ALL["scaled"].betas
    np.testing.assert_allclose(np.sqrt(scaled), np.linspace(0.00085**0.5, 0.012**0.5, 1000))
    # 2006.11239, 4: the signal that is left at the end of the linear process is small.
    assert Betas().alphas[-1] ** 2 == pytest.approx(4e-5, rel=0.02)
    assert Betas("cosine").betas.max() == pytest.approx(0.999)


def test_a_zero_terminal_schedule_has_no_signal_at_the_end_and_keeps_its_beginning():
    before, after = ALL["scaled"].alphas, ALL["zero_terminal"].alphas
    assert after[-1] == 0 and after[0] == pytest.approx(before[0], rel=1e-12)
    # It is a line of the square roots: differences are in one proportion.
    np.testing.assert_allclose(
        np.diff(after) / np.diff(before), after[0] / (before[0] - before[-1])
    )


def test_between_steps_the_log_ratio_is_interpolated():
    alpha, sigma = Betas().alpha_sigma(np.array([10.0, 10.5, 11.0]))
    ratio = np.log(sigma / alpha)
    assert ratio[1] == pytest.approx((ratio[0] + ratio[2]) / 2, rel=1e-9)
    clean = Betas().alpha_sigma(np.array([-1.0]))
    assert (clean[0], clean[1]) == (1, 0)


def test_a_shift_of_cosine_moves_the_log_snr():
    times = np.linspace(0.1, 0.9, 9)
    plain, shifted = Cosine().alpha_sigma(times), Cosine(shift=-1.5).alpha_sigma(times)
    moved = 2 * np.log(shifted[0] / shifted[1]) - 2 * np.log(plain[0] / plain[1])
    np.testing.assert_allclose(moved, -1.5, rtol=1e-9)


def test_a_flow_is_shifted_as_for_four_times_the_pixels():
    """2403.03206, equation 23: sqrt(m / n) is the shift, which moves 1/2 to 2/3 for m = 4 n."""
    assert RectifiedFlow(shift=2.0).times(2)[1] == pytest.approx(2 / 3)


def test_drawn_times_have_the_distribution_that_is_stated():
    shares = (np.arange(20_000) + 0.5) / 20_000
    logits = RectifiedFlow(mean=0.3, stddev=0.7).quantile(shares)
    found = np.log(logits / (1 - logits))
    assert found.mean() == pytest.approx(0.3, abs=0.01)
    assert found.std() == pytest.approx(0.7, abs=0.01)
    logs = np.log(Edm().quantile(shares))
    assert (logs.mean(), logs.std()) == pytest.approx((-1.2, 1.2), abs=0.01)
    steps = Betas().quantile(shares)
    assert set(np.unique(steps)) == set(range(1000)) and steps.mean() == pytest.approx(499.5)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ("leading", [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]),
        ("trailing", [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]),
        ("linspace", [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]),
    ],
)
def test_spacings_of_discrete_steps(spacing, expected):
    """2305.08891, table 2."""
    np.testing.assert_allclose(Betas().times(10, spacing), expected)


def test_karras_times_are_those_of_the_paper():
    found = Edm().times(18)
    np.testing.assert_allclose(found[[0, -1]], [80, 0.002])
    np.testing.assert_allclose(np.diff(found ** (1 / 7)), np.diff(found ** (1 / 7))[0])


def test_what_has_no_steps_has_no_spacing_of_them():
    with pytest.raises(ConfigError, match="discrete steps"):
        RectifiedFlow().times(10, "leading")
    with pytest.raises(ConfigError, match="take fewer"):
        Betas().times(1001, "trailing")
