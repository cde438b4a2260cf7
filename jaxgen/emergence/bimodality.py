"""Two tests at each scale show whether its seeds form two groups that differ in exact match.

Groups matter where exact match moves. Its *moving range* is where a rising map from the metric to
exact match (an isotonic regression over all runs) goes from 10 to 90 % of its rise. A value beyond
an end of that range counts as that end: seeds of a model that has not learned yet may differ in
much that exact match never sees, and a range of several nats, most of which is learning the format
of the answers, would hide two groups a fifth of a nat apart that answer all or nothing.

The two tests see different things. The dip, of the values within the range, looks for two modes of
any shape and needs groups of about the same size; the mixture of two Gaussians also notices a few
seeds apart from many. It is tested on the values as they are, since a pile at the end of a range
is no Gaussian. A scale's probability is twice the smaller of the two, corrected (Holm, 1979) over
the scales whose seeds differ in exact match by a quarter of its rise; at others it is 1. It is also
1 where neither test of the values as they are comes below 20 %: a narrow range, which a steep
metric has, would cut one wide group in two.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.optimize import isotonic_regression

from jaxgen.emergence.dip import dip_probability, dip_statistic
from jaxgen.emergence.runs import Runs
from jaxgen.emergence.two_components import TwoComponents, fit_two_components

ENDS = (0.1, 0.9)
"""Shares of the rise of exact match at the ends of the moving range."""
LEAST_RISE = 0.1
"""Rise of exact match, as a share of the way from chance to 1, below which it does not move."""
LEVEL = 0.05
FEWEST_TESTED_SEEDS = 6
FEWEST_OF_A_KIND = 2
SEPARATION = 3.0
"""Least distance between the groups' means, in standard deviations of a group."""
DISTANCE = 0.25
"""Least distance between the groups' means, as a share of the moving range."""
UNCLIPPED_LEVEL = 0.2
"""Level that one of the tests must reach on the values as they are."""
GAP = 0.25
"""Least difference in exact match that matters, as a share of its rise."""


@dataclasses.dataclass(frozen=True)
class MovingRange:
    """The range of a metric in which exact match moves.

    Attributes:
      low: the metric where exact match has made 10 % of its rise.
      high: the metric where it has made 90 %.
      rise: the rise of exact match with the metric.
    """

    low: float
    high: float
    rise: float

    @property
    def extent(self) -> float:
        """Returns the width of the range, in the metric's unit."""
        return self.high - self.low


@dataclasses.dataclass(frozen=True)
class Modes:
    """The seeds of one scale, tested for two groups. Values beyond the moving range are clipped.

    Attributes:
      scale: size on the axis.
      seeds: number of seeds.
      spread: the largest value less the smallest, as a share of the moving range.
      exact_match_spread: the same of exact match, as a share of its rise.
      dip: Hartigan's statistic.
      dip_probability: probability of such a dip or a larger one under one mode.
      two_components: the fit of two Gaussians.
      distance: the distance between their means, as a share of the moving range.
      gap: the difference in mean exact match of the two groups, as a share of its rise.
      probability: joint probability of both tests under one group, corrected over the scales.
    """

    scale: float
    seeds: int
    spread: float
    exact_match_spread: float
    dip: float
    dip_probability: float
    two_components: TwoComponents
    distance: float
    gap: float
    probability: float

    @property
    def is_apart(self) -> bool:
        """Returns whether two groups, if these are any, lie apart in the metric and exact match."""
        return (
            self.seeds >= FEWEST_TESTED_SEEDS
            and self.two_components.separation >= SEPARATION
            and self.distance >= DISTANCE
            and self.gap >= GAP
        )

    @property
    def may_have_groups(self) -> bool:
        """Returns whether the seeds lie apart as two groups would, too few to tell from one."""
        return (
            self.seeds < FEWEST_TESTED_SEEDS
            and self.spread > DISTANCE
            and self.exact_match_spread > GAP
        )


def scales_with_groups(modes: list[Modes]) -> list[Modes]:
    """Returns the scales whose seeds form two groups that differ in exact match.

    A single odd seed in all of the scales may be a run that went wrong, so two are needed.
    """
    apart = [mode for mode in modes if mode.is_apart]
    if sum(mode.two_components.fewer for mode in apart) < FEWEST_OF_A_KIND:
        return []
    return [mode for mode in apart if mode.probability < LEVEL]


def moving_range(runs: Runs, metric: str) -> MovingRange:
    """Returns where exact match moves; all of the metric's range where it does not rise with it."""
    values, which = np.unique(runs.metric(metric), return_inverse=True)
    count = np.bincount(which)
    exact = np.bincount(which, runs.metric("exact_match")) / count
    mapped = isotonic_regression(exact, weights=count).x
    rise = float(mapped[-1] - mapped[0])
    if rise < LEAST_RISE * (1 - runs.chance):
        return MovingRange(float(values[0]), float(values[-1]), 1 - runs.chance)
    low, high = np.interp(mapped[0] + np.array(ENDS) * rise, mapped, values)
    return MovingRange(float(low), float(high), rise)


def seed_modes(runs: Runs, metric: str) -> list[Modes]:
    """Tests the distribution of a metric over the seeds of each scale, smallest scale first."""
    moving = moving_range(runs, metric)
    extent = moving.extent or 1.0
    rungs = range(len(runs.scale))
    values = [runs.of_rung(metric, rung) for rung in rungs]
    clipped = [np.clip(of_rung, moving.low, moving.high) for of_rung in values]
    exact = [runs.of_rung("exact_match", rung) for rung in rungs]
    differs = np.array([np.ptp(of_rung) >= GAP * moving.rise for of_rung in exact])
    dips = [dip_probability(of_rung) for of_rung in clipped]
    mixtures = [fit_two_components(of_rung).probability for of_rung in values]
    unclipped = np.minimum(mixtures, [dip_probability(of_rung) for of_rung in values])
    both = np.minimum(1, 2 * np.minimum(dips, mixtures))
    both[unclipped >= UNCLIPPED_LEVEL] = 1
    corrected = np.ones(len(both))
    corrected[differs] = holm(both[differs])
    fits = [fit_two_components(of_rung) for of_rung in clipped]
    return [
        Modes(
            scale=float(runs.scale[rung]),
            seeds=len(values[rung]),
            spread=float(np.ptp(clipped[rung])) / extent,
            exact_match_spread=float(np.ptp(exact[rung])) / moving.rise,
            dip=dip_statistic(clipped[rung]),
            dip_probability=dips[rung],
            two_components=fits[rung],
            distance=fits[rung].distance / extent,
            gap=_gap(exact[rung], clipped[rung] > fits[rung].boundary) / moving.rise,
            probability=float(corrected[rung]),
        )
        for rung in rungs
    ]


def without_idle_groups(runs: Runs, metric: str) -> Runs:
    """Returns the runs without the smaller of two groups that do not differ in exact match.

    A mean over such groups moves with their shares and not with the ability.
    """
    rise = moving_range(runs, metric).rise
    fits = [fit_two_components(runs.of_rung(metric, rung)) for rung in range(len(runs.scale))]
    corrected = holm(np.array([fit.probability for fit in fits]))
    is_kept = np.ones(len(runs.rung), bool)
    for rung, (fit, probability) in enumerate(zip(fits, corrected, strict=True)):
        here = np.flatnonzero(runs.rung == rung)
        is_upper = runs.metric(metric)[here] > fit.boundary
        gap = _gap(runs.metric("exact_match")[here], is_upper)
        is_idle = fit.fewer >= FEWEST_OF_A_KIND and fit.separation >= SEPARATION
        if is_idle and probability < LEVEL and abs(gap) < GAP * rise:
            is_kept[here[is_upper != (fit.share > 0.5)]] = False
    return runs if is_kept.all() else runs.keep(is_kept)


def _gap(exact: np.ndarray, is_upper: np.ndarray) -> float:
    """Returns mean exact match of the upper group less that of the lower; 0 with one group."""
    if is_upper.all() or not is_upper.any():
        return 0.0
    return float(exact[is_upper].mean() - exact[~is_upper].mean())


def holm(probabilities: np.ndarray) -> np.ndarray:
    """Corrects probabilities [tests] for the number of tests (Holm, 1979)."""
    order = np.argsort(probabilities)
    factors = np.arange(len(order), 0, -1)
    corrected = np.minimum(1, np.maximum.accumulate(probabilities[order] * factors))
    return corrected[np.argsort(order)]
