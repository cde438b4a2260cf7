"""Hartigan's dip is the distance of a sample from the nearest distribution with one mode.

The distance is the largest difference of the distribution functions, minimised over all unimodal
distributions (Hartigan and Hartigan, 1985, The dip test of unimodality). A unimodal distribution
function is convex below its mode and concave above, so the statistic comes from the greatest convex
minorant and the least concave majorant of the empirical one, on a modal interval that is narrowed
until it no longer matters. Its probability is simulated under the uniform distribution, as in the
paper.

It is written from the paper, since the packaged implementations are under the GPL.
"""

from __future__ import annotations

import functools

import numpy as np

from jaxgen.emergence.errors import EmergenceError

NULL_DRAWS = 4000
"""Simulated uniform samples; a probability is known to about 1 / NULL_DRAWS."""


def dip_statistic(values: np.ndarray) -> float:
    """Returns the dip of values [n], from 1 / (2 n) to 1/4.

    Raises:
      EmergenceError: there are no values, or some are not finite.
    """
    values = np.sort(np.asarray(values, np.float64).ravel())
    count = len(values)
    if not count or not np.isfinite(values).all():
        raise EmergenceError("values must be at least one finite number to have a dip.")
    ranks = np.arange(1, count + 1, dtype=np.float64)
    low, high = 0, count - 1
    dip = 1.0  # in ranks, of two sides: 1 / (2 n) is the least that a step function can have
    while low < high and values[low] < values[high]:
        minorant = _hull(values, ranks - 1, low, high, sign=1)
        majorant = _hull(values, ranks, low, high, sign=-1)
        inside = np.arange(low, high + 1)
        below = np.interp(values[inside], values[minorant], ranks[minorant] - 1)
        above = np.interp(values[inside], values[majorant], ranks[majorant])
        gaps_below = (above - below)[minorant - low]
        gaps_above = (above - below)[majorant - low]
        if max(gaps_below.max(), gaps_above.max()) <= dip:
            break
        if gaps_below.max() >= gaps_above.max():
            new_low = minorant[gaps_below.argmax()]
            new_high = majorant[np.searchsorted(majorant, new_low)]
        else:
            new_high = majorant[gaps_above.argmax()]
            new_low = minorant[np.searchsorted(minorant, new_high, side="right") - 1]
        left = ranks[low : new_low + 1] - below[: new_low - low + 1]
        right = above[new_high - low :] - (ranks[new_high : high + 1] - 1)
        narrowed = max(dip, left.max(initial=0.0), right.max(initial=0.0))
        if (new_low, new_high) == (low, high):
            return float(narrowed / (2 * count))
        dip, low, high = narrowed, int(new_low), int(new_high)
    return float(dip / (2 * count))


def dip_probability(values: np.ndarray) -> float:
    """Returns the probability that n uniform numbers have at least the dip of values [n].

    With fewer than 4 values every sample is unimodal and the probability 1. The uniform is the
    least favourable unimodal distribution, so that for others the test is conservative.
    """
    statistic = dip_statistic(values)
    count = len(values)
    if count < 4:
        return 1.0
    null = null_dips(count)
    return float((1 + np.sum(null >= statistic - 1e-12)) / (1 + len(null)))


@functools.lru_cache(maxsize=64)
def null_dips(count: int) -> np.ndarray:
    samples = np.random.default_rng([1985, count]).random((NULL_DRAWS, count))
    return np.array([dip_statistic(sample) for sample in samples])


def _hull(x: np.ndarray, y: np.ndarray, low: int, high: int, sign: int) -> np.ndarray:
    """Returns the places that the convex minorant (sign 1) or concave majorant (-1) touches.

    Among equal values the first counts for the minorant and the last for the majorant.
    """
    order = range(low, high + 1)
    kept: list[int] = []
    for place in order:
        if kept and x[kept[-1]] == x[place]:
            if sign == 1:
                continue
            kept.pop()
        while len(kept) > 1:
            a, b = kept[-2], kept[-1]
            turn = (x[b] - x[a]) * (y[place] - y[a]) - (y[b] - y[a]) * (x[place] - x[a])
            if sign * turn > 0:
                break
            kept.pop()
        kept.append(place)
    return np.array(kept)
