"""A mixture of two Gaussians against a single one tells whether seeds form two groups.

Both components have one variance, which keeps a component from shrinking onto a single seed; with
unequal variances the likelihood is unbounded (Day, 1969). Two comparisons are made: BIC, and the
probability of as large a likelihood ratio under a single Gaussian, by simulation (McLachlan, 1987),
since the ratio has no chi-square distribution. That probability depends on the number of seeds
alone, not on the mean or the width of the Gaussian.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from jaxgen.emergence.errors import EmergenceError

NULL_DRAWS = 4000
"""Simulated samples of a single Gaussian."""
ITERATIONS = 60
"""Steps of expectation maximisation, starting from the best cut of the sorted sample."""
LEAST_SPREAD = 1e-3
"""Least spread of a component, as a share of the sample's standard deviation."""


@dataclasses.dataclass(frozen=True)
class TwoComponents:
    """Two Gaussians of one variance, and how much better than one they fit.

    Attributes:
      share: share of the upper component.
      low: mean of the lower component.
      high: mean of the upper component.
      spread: standard deviation of both.
      bic_gain: BIC of one component less that of two; above 10 is very strong evidence for two
        (Kass and Raftery, 1995).
      probability: probability of as large a likelihood ratio from a single Gaussian.
      fewer: number of values in the smaller component; each belongs to the likelier one.
    """

    share: float
    low: float
    high: float
    spread: float
    bic_gain: float
    probability: float
    fewer: int

    @property
    def distance(self) -> float:
        """Returns the distance between the two means, in the values' unit."""
        return self.high - self.low

    @property
    def separation(self) -> float:
        """Returns Ashman's D (1994), the distance over the spread; above 2 two peaks show."""
        return self.distance / self.spread if self.spread > 0 else float("inf")

    @property
    def boundary(self) -> float:
        """Returns the value that is as likely in one component as in the other."""
        if self.distance == 0 or not 0 < self.share < 1:
            return self.high
        odds = np.log((1 - self.share) / self.share)
        return (self.low + self.high) / 2 + float(odds) * self.spread**2 / self.distance


def fit_two_components(values: np.ndarray) -> TwoComponents:
    """Fits two components to values [n].

    Fewer than 4 values, or values that are all equal, form one group: the gain is minus infinity
    and the probability 1.

    Raises:
      EmergenceError: there are no values, or some are not finite.
    """
    values = np.sort(np.asarray(values, np.float64).ravel())
    count = len(values)
    if not count or not np.isfinite(values).all():
        raise EmergenceError("values must be at least one finite number to fit components to.")
    scale = values.std()
    if count < 4 or scale == 0:
        mean = float(values.mean())
        return TwoComponents(0.5, mean, mean, float(scale), -np.inf, 1.0, 0)
    standard = (values - values.mean()) / scale
    ratio, share, low, high, spread, is_upper = (part[0] for part in _fit(standard[None]))
    null = _null_ratios(count)
    upper = int(is_upper.sum())
    return TwoComponents(
        share=float(share),
        low=float(values.mean() + scale * low),
        high=float(values.mean() + scale * high),
        spread=float(scale * spread),
        bic_gain=float(ratio - 2 * np.log(count)),
        probability=float((1 + np.sum(null >= ratio)) / (1 + len(null))),
        fewer=min(upper, count - upper),
    )


@functools.lru_cache(maxsize=64)
def _null_ratios(count: int) -> np.ndarray:
    samples = np.sort(np.random.default_rng([1987, count]).normal(size=(NULL_DRAWS, count)))
    samples = (samples - samples.mean(1, keepdims=True)) / samples.std(1, keepdims=True)
    return _fit(samples)[0]


def _fit(samples: np.ndarray) -> tuple[np.ndarray, ...]:
    """Fits samples [samples, n] that are sorted and standardised.

    Returns:
      Twice the log likelihood ratio, the share, both means and the spread, [samples] each; and
      whether each value more likely comes from the upper component, [samples, n] bool.
    """
    count = samples.shape[1]
    # The cut of the sorted values with the least variance within: all of them from running sums.
    sums = np.cumsum(samples, axis=1)[:, :-1]
    below = np.arange(1, count)
    between = sums**2 / below + sums**2 / (count - below)  # the total is 0
    cut = between.argmax(axis=1) + 1
    weight = (np.arange(count)[None] >= cut[:, None]).astype(np.float64)
    log_likelihood = np.zeros(len(samples))
    share = low = high = spread = log_likelihood
    for _ in range(ITERATIONS):
        mass = np.clip(weight.sum(1), 1e-9, count - 1e-9)
        share = mass / count
        high = (weight * samples).sum(1) / mass
        low = ((1 - weight) * samples).sum(1) / (count - mass)
        apart = weight * (samples - high[:, None]) ** 2
        apart += (1 - weight) * (samples - low[:, None]) ** 2
        spread = np.maximum(np.sqrt(apart.mean(1)), LEAST_SPREAD)
        upper = np.log(share)[:, None] - 0.5 * ((samples - high[:, None]) / spread[:, None]) ** 2
        lower = np.log1p(-share)[:, None] - 0.5 * ((samples - low[:, None]) / spread[:, None]) ** 2
        total = np.logaddexp(upper, lower)
        weight = np.exp(upper - total)
        log_likelihood = total.sum(1) - count * np.log(spread)
    # One Gaussian of unit variance has the log likelihood -n / 2 with the same constants left out.
    ratio = 2 * (log_likelihood + count / 2)
    return ratio, share, low, high, spread, weight > 0.5
