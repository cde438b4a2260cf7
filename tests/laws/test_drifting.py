"""A drifting power law against least squares, and against ladders drawn from its own prior."""

import numpy as np
import pytest

from jaxgen.laws import LawError
from jaxgen.laws.drifting import DriftPrior, fit_drifting

SCALES = np.geomspace(1e9, 1e11, 7)
CERTAIN = DriftPrior(drift=1e-6, noise=0.02, drift_spread=0.01, noise_spread=0.01)


def test_without_drift_it_is_the_line_of_least_squares():
    rng = np.random.default_rng(0)
    values = 3 * SCALES**-0.1 * np.exp(0.02 * rng.standard_normal(7))
    fit = fit_drifting(SCALES, values, prior=CERTAIN)
    x, at = np.log(SCALES), np.log(1e12)
    (slope, level), covariance = np.polyfit(x, np.log(values), 1, cov="unscaled")
    draws = np.log(fit.sample(1e12))
    assert np.mean(draws) == pytest.approx(level + slope * at, abs=4e-3)
    lever = np.array([at, 1.0])
    assert np.std(draws) == pytest.approx(0.02 * np.sqrt(lever @ covariance @ lever), rel=0.05)


def test_drift_continues_a_bend_and_widens_with_distance():
    x = np.log(SCALES / SCALES[0])
    bent = np.exp(-0.05 * x - 0.03 * x**2)
    fit = fit_drifting(SCALES, bent)
    line = np.polyfit(x, np.log(bent), 1)
    near, far = (np.log(SCALES[-1] * times / SCALES[0]) for times in (2, 20))
    truth = -0.05 * near - 0.03 * near**2
    forecast = np.log(fit.value_at(2 * SCALES[-1]))
    assert abs(forecast - truth) < 0.3 * abs(np.polyval(line, near) - truth)
    widths = [np.ptp(np.log(fit.interval_at(SCALES[-1] * times))) for times in (2, 20)]
    # The variance of integrated Brownian motion grows with the cube of the distance.
    assert widths[1] > 3 * widths[0] and far > near


def test_nine_intervals_of_ten_hold_what_the_prior_itself_draws():
    prior, rng = DriftPrior(), np.random.default_rng(1)
    x = np.log(np.append(SCALES, 3e11) / SCALES[0])
    inside = []
    for _ in range(200):
        drift = prior.drift * np.exp(prior.drift_spread * rng.standard_normal())
        noise = prior.noise * np.exp(prior.noise_spread * rng.standard_normal())
        fine = np.linspace(0, x[-1], 4000)
        slopes = -0.2 + drift * np.cumsum(rng.standard_normal(4000)) * np.sqrt(fine[1])
        curve = np.interp(x, fine, np.cumsum(slopes) * fine[1])
        runs = curve[:, None] + noise * rng.standard_normal((8, 3))
        fit = fit_drifting(np.repeat(SCALES, 3), np.exp(runs[:7]).ravel(), np.tile([0, 1, 2], 7))
        low, high = fit.interval_at(3e11, 3, level=0.9)
        inside.append(low <= np.exp(runs[7].mean()) <= high)
    assert 0.84 <= np.mean(inside) <= 0.96  # 0.9 within three standard errors


def test_what_the_sizes_of_a_seed_share_is_no_noise_of_its_mean():
    rng = np.random.default_rng(2)
    shared = 0.05 * rng.standard_normal(4)
    own = 0.002 * rng.standard_normal((7, 4))
    values = 3 * SCALES[:, None] ** -0.1 * np.exp(shared + own)
    scales, seeds = np.repeat(SCALES, 4), np.tile(np.arange(4), 7)
    paired = fit_drifting(scales, values.ravel(), seeds)
    apart = fit_drifting(scales, values.ravel())
    assert paired.noise == pytest.approx(0.002, rel=0.5) and apart.noise > 5 * paired.noise
    assert np.sqrt(paired.of_seeds) == pytest.approx(np.std(shared, ddof=1), rel=0.05)
    same, others = (
        np.ptp(np.log(paired.interval_at(3e11, 4, are_new=are_new))) for are_new in (False, True)
    )
    assert same < others


def drawn(rng, drift, noise, scales):
    """Values of three seeds, [scales, 3], whose exponent drifts about -0.2."""
    x = np.log(scales / scales[0])
    fine = np.linspace(0, x[-1], 4000)
    slopes = -0.2 + drift * np.cumsum(rng.standard_normal(4000)) * np.sqrt(fine[1])
    curve = np.interp(x, fine, np.cumsum(slopes) * fine[1])
    return np.exp(curve[:, None] + noise * rng.standard_normal((len(x), 3)))


def test_earlier_steps_tell_the_drift_and_neither_level_nor_slope():
    rng, seeds = np.random.default_rng(3), np.tile([0, 1, 2], 7)
    prior, inside, widths = DriftPrior(), [], []
    scales = np.append(SCALES, 3e11)
    for _ in range(100):
        drift = prior.drift * np.exp(prior.drift_spread * rng.standard_normal())
        noise = prior.noise * np.exp(prior.noise_spread * rng.standard_normal())
        ends, other = (drawn(rng, drift, noise, scales) for _ in range(2))
        # Another level and slope: what the runs were before.
        before = 7 * other[:7] * SCALES[:, None] ** 0.15
        scale, value = np.repeat(SCALES, 3), ends[:7].ravel()
        earlier = [(np.repeat(SCALES, 3), before.ravel(), seeds)]
        alone, with_both, again = (
            fit_drifting(scale, value, seeds, earlier=one).interval_at(3e11, 3)
            for one in ([], earlier, earlier * 5)
        )
        assert with_both == again  # However many they are.
        inside.append(with_both[0] <= np.exp(np.mean(np.log(ends[7]))) <= with_both[1])
        widths.append([np.ptp(np.log(one)) for one in (alone, with_both)])
    assert 0.81 <= np.mean(inside) <= 0.99  # 0.9 within three standard errors
    assert np.median(np.divide(*np.transpose(widths))) > 1.0
    moved = [(np.repeat(SCALES, 3), 5 * ends[:7].ravel() * np.repeat(SCALES, 3) ** 0.3, seeds)]
    same = [(np.repeat(SCALES, 3), ends[:7].ravel(), seeds)]
    found = [
        fit_drifting(scale, value, seeds, earlier=one).interval_at(3e11) for one in (moved, same)
    ]
    assert found[0] == pytest.approx(found[1])


def test_what_cannot_be_fitted_is_refused_with_the_reason():
    with pytest.raises(LawError, match="2 scales are too few"):
        fit_drifting([1e9, 1e9, 2e9], [3.0, 2.9, 2.0])
    with pytest.raises(LawError, match=r"value\[1\]=-1.0 must be positive"):
        fit_drifting([1e9, 2e9, 3e9], [3.0, -1.0, 2.0])
    with pytest.raises(LawError, match="must be one number a run"):
        fit_drifting([1e9, 2e9, 3e9], [3.0, 1.0])
    with pytest.raises(LawError, match="2 scales are too few"):
        fit_drifting([1e9, 2e9, 3e9], [3.0, 2.0, 1.5], earlier=[([1e9, 2e9], [3.0, 2.0], None)])
    fit = fit_drifting([1e9, 2e9, 3e9], [3.0, 2.0, 1.5])
    with pytest.raises(LawError, match="must not be below the least"):
        fit.sample(1e8)
