"""A drifting power law is one whose exponent changes, by as much as it did before.

In logarithms a power law is a line. Here the slope of the line drifts with scale as Brownian motion
does, so that the curve about the line is its integral (a local linear trend, or smoothing spline:
Wahba, 1978; Harvey, 1989). Over a ladder that follows a power law the drift is small and forecasts
are the line's; where the curve bends, forecasts go on from where it is, and their variance grows
with the cube of the distance. Drift and noise are not fitted but integrated over, with priors that
were fixed on past ladders (docs/findings.md), so that few sizes give wide intervals.

Three things make a forecast uncertain, and each has a variance of its own: the law (level, slope,
drift), the run, and, for seeds not seen before, what all sizes of a seed share, as the order of
the data. The mean over seeds that the ladder has too is free of the last.

How much exponents of a ladder drift shows all along its training: the same runs at earlier steps
are further ladders, whose levels and slopes are their own and whose drift and noise are this one's.
They rise and fall together, so that all of them count as one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.errors import LawError
from jaxgen.laws.resampling import interval
from jaxgen.laws.seed_effects import seed_effects
from jaxgen.laws.table import check_positive, floats

Runs = tuple[ArrayLike, ArrayLike, ArrayLike | None]
"""Scales, values and seeds, [runs] each."""
LEAST_SCALES = 3
"""Two scales give a line, and nothing to tell drift from."""
DRAWS = 4000
NODES, REACH = 13, 3.0
"""Values of drift and of noise that are integrated over, up to so many deviations of the prior."""


@dataclasses.dataclass(frozen=True)
class DriftPrior:
    """A prior says what is known of a ladder before it is trained.

    Attributes:
      drift: median of the standard deviation of the change of an exponent over one e-fold of scale.
      noise: median of the relative standard deviation of a run's loss.
      drift_spread: standard deviation of the drift's logarithm.
      noise_spread: of the noise's.
    """

    drift: float = 0.1
    noise: float = 0.05
    drift_spread: float = 1.5
    noise_spread: float = 1.5


@dataclasses.dataclass(frozen=True, eq=False)
class DriftingFit:
    """A fit has, for each value of drift and noise that is integrated over, its weight.

    Attributes:
      place: [scales] logarithm of the scale over the least.
      value: [scales] logarithm of the mean value.
      runs: [scales] number of runs.
      of_seeds: variance of what the runs of a seed share.
      drifts: [nodes] variance of the change of slope over an e-fold.
      noises: [nodes] variance of a run.
      weights: [nodes] posterior probabilities.
      origin: the least scale.
    """

    place: np.ndarray
    value: np.ndarray
    runs: np.ndarray
    of_seeds: float
    drifts: np.ndarray
    noises: np.ndarray
    weights: np.ndarray
    origin: float

    def sample(
        self, scale: float, seeds: int | None = None, are_new: bool = False, seed: int = 0
    ) -> np.ndarray:
        """Draws values at a scale, [DRAWS].

        Args:
          scale: where; not below the least of the fit.
          seeds: number of runs whose mean is drawn; None for the law alone.
          are_new: whether these are other seeds than those of the fit.
          seed: of the draws.
        """
        at = np.log(scale / self.origin)
        if not at >= 0:
            raise LawError(f"scale={scale:g} must not be below the least, {self.origin:g}.")
        mean, variance = self._posterior.at(at)
        if seeds is not None:
            variance = variance + (self.noises + are_new * self.of_seeds) / seeds
        random = np.random.default_rng(seed)
        node = random.choice(len(self.weights), DRAWS, p=self.weights)
        return np.exp(mean[node] + np.sqrt(variance[node]) * random.standard_normal(DRAWS))

    def value_at(self, scale: float) -> float:
        """Returns the median forecast at a scale."""
        return float(np.median(self.sample(scale)))

    def interval_at(
        self, scale: float, seeds: int | None = None, level: float = 0.9, are_new: bool = False
    ) -> tuple[float, float]:
        """Returns the interval of a mean of runs at a scale, see `sample`."""
        low, high = interval(self.sample(scale, seeds, are_new), level)
        return float(low), float(high)

    @functools.cached_property
    def _posterior(self) -> _Nodes:
        return _Nodes(self.place, self.value, self.runs, self.drifts, self.noises)

    @property
    def exponent(self) -> float:
        """Returns the exponent at the largest scale, with the sign of a falling loss."""
        end, step = self.place[-1], 1e-3
        mean = [self.weights @ self._posterior.at(place)[0] for place in (end, end + step)]
        return float((mean[0] - mean[1]) / step)

    @property
    def drift(self) -> float:
        """Returns the posterior median of the change of the exponent over an e-fold of scale."""
        order = np.argsort(self.drifts, kind="stable")
        middle = np.searchsorted(np.cumsum(self.weights[order]), 0.5)
        return float(np.sqrt(self.drifts[order][middle]))

    @property
    def noise(self) -> float:
        """Returns the posterior mean of a run's relative standard deviation."""
        return float(np.sum(self.weights * np.sqrt(self.noises)))


def fit_drifting(
    scale: ArrayLike,
    value: ArrayLike,
    seeds: ArrayLike | None = None,
    prior: DriftPrior = DriftPrior(),
    earlier: Sequence[Runs] = (),
) -> DriftingFit:
    """Fits a drifting power law to runs.

    Args:
      scale: [runs] parameters or FLOPs.
      value: [runs] positive, such as a loss.
      seeds: [runs] names; runs of one scale with one name, or without, count as repeats.
      prior: of drift and noise.
      earlier: runs at earlier steps, those of each step by themselves, from whose values drift and
        noise are known better.

    Raises:
      LawError: fewer than LEAST_SCALES scales, or a number that is not positive.
    """
    offsets = np.linspace(-REACH, REACH, NODES)
    by_drift, by_noise = (axis.ravel() for axis in np.meshgrid(offsets, offsets))
    drifts = (prior.drift * np.exp(by_drift * prior.drift_spread)) ** 2
    noises = (prior.noise * np.exp(by_noise * prior.noise_spread)) ** 2
    found = _ladder_of(scale, value, seeds)
    chances = -(by_drift**2 + by_noise**2) / 2 + found.log_likelihood(drifts, noises)
    if earlier:
        ladders = [_ladder_of(*runs) for runs in earlier]
        chances += np.mean([one.log_likelihood(drifts, noises) for one in ladders], axis=0)
    weights = np.exp(chances - chances.max())
    return DriftingFit(
        found.place, found.value, found.runs, found.of_seeds, drifts, noises,
        weights / weights.sum(), found.origin,
    )  # fmt: skip


class _Ladder(NamedTuple):
    """What is known of runs but for drift and noise; see `DriftingFit`.

    Attributes:
      squares, freedom: sum of squares of runs about their size, and its degrees of freedom.
    """

    place: np.ndarray
    value: np.ndarray
    runs: np.ndarray
    squares: float
    freedom: int
    of_seeds: float
    origin: float

    def log_likelihood(self, drifts: np.ndarray, noises: np.ndarray) -> np.ndarray:
        """Returns the logarithm of the likelihood of variances of drift and noise, [nodes]."""
        within = -(self.freedom / 2 * np.log(noises) + self.squares / (2 * noises))
        return within + _Nodes(self.place, self.value, self.runs, drifts, noises).log_likelihood


def _ladder_of(scale: ArrayLike, value: ArrayLike, seeds: ArrayLike | None) -> _Ladder:
    scale, value = floats("scale", scale), floats("value", value)
    if scale.ndim != 1 or scale.shape != value.shape:
        raise LawError(f"scale {scale.shape} and value {value.shape} must be one number a run.")
    check_positive("scale", scale)
    check_positive("value", value)
    scales, rung, runs = np.unique(scale, return_inverse=True, return_counts=True)
    if len(scales) < LEAST_SCALES:
        raise LawError(
            f"{len(scales)} scales are too few for a forecast with an interval; train "
            f"{LEAST_SCALES} or more."
        )
    logs = np.log(value)
    squares, freedom, of_seeds = _scatter(logs, rung, seeds)
    place, mean = np.log(scales / scales[0]), np.bincount(rung, logs) / runs
    return _Ladder(place, mean, runs, squares, freedom, of_seeds, float(scales[0]))


def _scatter(logs: np.ndarray, rung: np.ndarray, seeds: ArrayLike | None) -> tuple:
    """Returns squares and degrees of freedom of runs about their size, and the seeds' variance.

    Where every size has the same seeds, what a seed adds at all sizes is taken out first.
    """
    runs = np.bincount(rung)
    residual = logs - (np.bincount(rung, logs) / runs)[rung]
    freedom = len(logs) - len(runs)
    if seeds is None or freedom < 1:
        return float(np.sum(residual**2)), freedom, 0.0
    found = seed_effects(logs, rung, np.asarray(seeds))
    if found is None:
        return float(np.sum(residual**2)), freedom, 0.0
    names, shared = found
    own = residual - shared[np.searchsorted(names, np.asarray(seeds))]
    squares, left = float(np.sum(own**2)), (len(runs) - 1) * (len(names) - 1)
    between = float(np.sum(shared**2)) / (len(names) - 1)
    return squares, left, max(between - squares / left / len(runs), 0.0)


class _Nodes:
    """The law given drift and noise, for many values of both at once.

    Level and slope have flat priors, and are integrated over (generalised least squares; Rasmussen
    and Williams, 2006, section 2.7).
    """

    def __init__(
        self,
        place: np.ndarray,
        value: np.ndarray,
        runs: np.ndarray,
        drifts: np.ndarray,
        noises: np.ndarray,
    ):
        self.place, self.drifts = place, drifts
        own = noises[:, None, None] * np.diag(1 / runs)
        covariance = drifts[:, None, None] * _covariance(place, place) + own
        self.lines = np.stack([np.ones_like(place), place], axis=1)
        self.inverse = np.linalg.inv(covariance)
        information = self.lines.T @ self.inverse @ self.lines
        self.of_line = np.linalg.inv(information)
        pulled = self.inverse @ value
        self.line = np.einsum("nij,nj->ni", self.of_line, pulled @ self.lines)
        self.rest = value - self.line @ self.lines.T
        squares = np.einsum("ni,nij,nj->n", self.rest, self.inverse, self.rest)
        sizes = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1]
        self.log_likelihood = -(sizes + squares) / 2

    def at(self, place: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns mean and variance of the law at a place, [nodes] each."""
        there, line = np.array([place]), np.array([1.0, place])
        between = self.drifts[:, None] * _covariance(self.place, there)[:, 0]
        weights = np.einsum("nij,nj->ni", self.inverse, between)
        mean = self.line @ line + np.sum(weights * self.rest, axis=1)
        lever = line - weights @ self.lines
        variance = self.drifts * _covariance(there, there)[0, 0]
        variance = variance - np.sum(weights * between, axis=1)
        return mean, variance + np.einsum("ni,nij,nj->n", lever, self.of_line, lever)


def _covariance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the covariance [first, second] of integrated Brownian motion from 0."""
    low, high = np.minimum.outer(first, second), np.maximum.outer(first, second)
    return low**2 * (high / 2 - low / 6)
