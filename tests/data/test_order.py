"""The order of an epoch looks like chance, at lengths that are powers of two and that are not."""

import numpy as np
import pytest
from scipy import stats

from jaxgen.data.hashing import permutation

LENGTHS = [4096, 5000, 65_536, 70_001]
# One in a thousand such files would fail by chance at this level; here the seeds are fixed.
LEVEL = 1e-5


def chance(result) -> float:
    return float(result.pvalue)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("epoch", range(3))
def test_one_epoch(length, epoch):
    order = permutation(length, 0, "task", "documents", epoch)
    ranks = (order - (length - 1) / 2) / length

    # Serial correlation at several lags; its variance is 1 / length.
    for lag in (1, 2, 7, 64):
        correlation = np.mean(ranks[lag:] * ranks[:-lag]) * 12
        assert abs(correlation) * np.sqrt(length) < stats.norm.isf(LEVEL / 2)

    # Parity: even numbers come as often in each half, and pairs of parities are independent.
    even = order % 2 == 0
    first = int(even[: length // 2].sum())
    assert stats.hypergeom(length, int(even.sum()), length // 2).cdf(first) > LEVEL / 2
    assert stats.hypergeom(length, int(even.sum()), length // 2).sf(first - 1) > LEVEL / 2
    pairs = np.bincount(2 * even[0 : length - 1 : 2] + even[1:length:2], minlength=4)
    assert chance(stats.chisquare(pairs)) > LEVEL

    # Windowed counts: every window of the order takes its part of every range of numbers.
    windows, ranges = 16, 16
    table = np.zeros((windows, ranges))
    np.add.at(table, (np.arange(length) * windows // length, order * ranges // length), 1)
    assert LEVEL < chance(stats.chi2_contingency(table)) < 1 - LEVEL

    # How often neighbours in the file stay neighbours: twice in the mean, nearly Poisson.
    together = int((np.abs(np.diff(order)) == 1).sum())
    assert stats.poisson(2).sf(together - 1) > LEVEL


def test_epochs_tasks_and_seeds_are_independent():
    length = 20_000
    seeds = [(0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0)]
    places = [np.argsort(permutation(length, *seed)) for seed in seeds]
    for first in range(len(places)):
        for second in range(first):
            both = stats.spearmanr(places[first], places[second])
            assert chance(both) > LEVEL, (seeds[first], seeds[second])
            # Fixed points of one order in the other: Poisson with mean 1.
            same = int((places[first] == places[second]).sum())
            assert stats.poisson(1).sf(same - 1) > LEVEL
