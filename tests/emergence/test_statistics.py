"""Intervals, the dip and two components against published values."""

import numpy as np
import pytest

from jaxgen.emergence import EmergenceError
from jaxgen.emergence.bimodality import holm
from jaxgen.emergence.dip import dip_probability, dip_statistic, null_dips
from jaxgen.emergence.intervals import bootstrap_mean, wilson
from jaxgen.emergence.two_components import fit_two_components


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # statsmodels.stats.proportion.proportion_confint(..., method="wilson"), 0.14
        (0, 10, 0.0, 0.27753279986288926),
        (3, 10, 0.10779126740630104, 0.6032218525388546),
        (10, 10, 0.7224672001371106, 1.0),
        (50, 200, 0.19508168006817495, 0.31434098312045833),
        (1, 3, 0.06149194472039626, 0.7923403991979523),
    ],
)
def test_wilson_as_statsmodels(successes, trials, low, high):
    found = wilson(successes, trials)
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)
    assert found.contains(successes / trials)


def test_bootstrap_covers_the_mean():
    random = np.random.default_rng(0)
    samples = random.normal(3, 1, (200, 20))
    covered = np.mean([bootstrap_mean(one, draws=500).contains(3) for one in samples])
    assert 0.87 < covered < 0.99
    assert np.isnan(bootstrap_mean(np.ones(1)).low)


# Quantiles of a million uniform samples, as in R's diptest (qDiptab), after Hartigan's Table 1.
@pytest.mark.parametrize(
    ("count", "quantiles"),
    [
        (4, (0.1250, 0.1874, 0.2073, 0.2318)),
        (10, (0.0978, 0.1305, 0.1396, 0.1597)),
        (20, (0.0733, 0.0972, 0.1051, 0.1206)),
    ],
)
def test_null_of_the_dip_as_published(count, quantiles):
    for level, expected in zip((0.5, 0.9, 0.95, 0.99), quantiles, strict=True):
        # A quantile of 4000 draws is itself uncertain by about a hundredth.
        assert np.quantile(null_dips(count), level) == pytest.approx(expected, rel=0.03)


def test_dips_of_known_samples():
    assert dip_statistic(np.arange(10)) == pytest.approx(1 / 20)  # as even as can be
    assert dip_statistic(np.repeat([0.0, 1.0], 500)) == pytest.approx(0.25)  # two points
    two = np.concatenate([np.linspace(0, 0.1, 5), np.linspace(1, 1.1, 5)])
    assert dip_statistic(two) == pytest.approx(0.225)  # diptest 0.12
    assert dip_probability(two) < 0.001
    assert dip_statistic(np.full(8, 2.5)) == pytest.approx(1 / 16)


def smallest_distance(values, mode):
    """The dip for a given mode, by its definition: a linear program over the unimodal ones."""
    from scipy.optimize import linprog

    x = np.unique(values)
    upper = np.searchsorted(np.sort(values), x, side="right") / len(values)
    lower = np.searchsorted(np.sort(values), x, side="left") / len(values)
    # Unknowns: G just before and at each value (they differ at the mode alone), and the distance.
    count = len(x)
    before, at, distance = np.arange(count), count + np.arange(count), 2 * count
    rows, bounds = [], []

    def at_most(terms, limit):
        row = np.zeros(2 * count + 1)
        for place, weight in terms:
            row[place] += weight
        rows.append(row)
        bounds.append(limit)

    for i in range(count):
        at_most([(before[i], 1), (distance, -1)], lower[i])
        at_most([(before[i], -1), (distance, -1)], -lower[i])
        at_most([(at[i], 1), (distance, -1)], upper[i])
        at_most([(at[i], -1), (distance, -1)], -upper[i])
        at_most([(before[i], 1), (at[i], -1)], 0)
        if i != mode:
            at_most([(at[i], 1), (before[i], -1)], 0)
        if i + 1 < count:
            at_most([(at[i], 1), (before[i + 1], -1)], 0)
    for i in range(1, count - 1):
        if i == mode:
            continue
        left, right = x[i] - x[i - 1], x[i + 1] - x[i]
        rising = 1 if i < mode else -1
        slope = [(at[i], rising / left + rising / right), (at[i - 1], -rising / left)]
        at_most([*slope, (before[i + 1], -rising / right)], 0)
    cost = np.zeros(2 * count + 1)
    cost[-1] = 1
    limits = [(0, 1)] * (2 * count) + [(0, None)]
    return linprog(cost, A_ub=np.array(rows), b_ub=bounds, bounds=limits).fun


def test_dip_is_its_definition():
    random = np.random.default_rng(1)
    for count in (4, 6, 9, 12):
        values = np.concatenate([random.normal(0, 1, count // 2), random.normal(4, 1, count // 2)])
        expected = min(smallest_distance(values, mode) for mode in range(len(values)))
        assert dip_statistic(values) == pytest.approx(expected, abs=1e-7)


def test_two_components_are_found():
    random = np.random.default_rng(2)
    found = fit_two_components(
        np.concatenate([random.normal(-2, 0.1, 6), random.normal(1, 0.1, 4)])
    )
    assert found.low == pytest.approx(-2, abs=0.15)
    assert found.high == pytest.approx(1, abs=0.15)
    assert found.share == pytest.approx(0.4, abs=0.01)
    assert found.fewer == 4
    assert found.bic_gain > 10
    assert found.probability < 0.005


def test_one_component_is_rejected_as_often_as_the_level_says():
    random = np.random.default_rng(3)
    found = [fit_two_components(random.normal(5, 2, 8)).probability for _ in range(400)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_equal_or_few_values_are_one_component():
    assert fit_two_components(np.ones(9)).probability == 1
    assert fit_two_components(np.array([0.0, 1.0, 2.0])).probability == 1


def test_holm():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(1, 0),
        lambda: wilson(3, 2),
        lambda: wilson(1, 2, confidence=95),
        lambda: bootstrap_mean(np.zeros(0)),
        lambda: dip_statistic(np.array([1.0, np.nan])),
        lambda: fit_two_components(np.zeros(0)),
    ],
)
def test_refusals(call):
    with pytest.raises(EmergenceError):
        call()
