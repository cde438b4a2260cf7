"""These intervals for shares and means keep their coverage with few seeds.

Wilson's score interval (Wilson, 1927) does so near 0 and 1, where abilities begin and end, and is
never empty there. Means of anything else get the percentile bootstrap over seeds.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.stats import norm

from jaxgen.emergence.errors import EmergenceError


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate between two bounds.

    Attributes:
      value: the estimate.
      low: the lower bound.
      high: the upper bound.
    """

    value: float
    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Returns whether a value lies inside, the bounds included."""
        return self.low <= value <= self.high


def wilson(successes: float, trials: float, confidence: float = 0.95) -> Interval:
    """Returns Wilson's interval of a share.

    Args:
      successes: 0 to `trials`; fractional where trials are an effective number.
      trials: more than 0.
      confidence: confidence of the two-sided interval.

    Raises:
      EmergenceError: there are no trials, or more successes than trials.
    """
    if trials <= 0 or not 0 <= successes <= trials:
        raise EmergenceError(
            f"successes={successes} of trials={trials}: trials must be positive, and successes lie "
            "between 0 and trials."
        )
    z = norm.ppf(0.5 + checked_confidence(confidence) / 2)
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # Rounding must not put the share 0 or 1 outside its own interval.
    return Interval(share, float(min(share, centre - half)), float(max(share, centre + half)))


def bootstrap_mean(
    values: np.ndarray, confidence: float = 0.95, draws: int = 2000, seed: int = 0
) -> Interval:
    """Returns the mean of values [units] with a percentile bootstrap interval over the units.

    The interval of a single unit is NaN.

    Raises:
      EmergenceError: there are no values.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        raise EmergenceError("values is empty: a mean needs at least one seed.")
    tail = (1 - checked_confidence(confidence)) / 2
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, float("nan"), float("nan"))
    picks = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


def checked_confidence(confidence: float) -> float:
    """Returns a confidence if it lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise EmergenceError(f"confidence={confidence} must be between 0 and 1, such as 0.95.")
    return confidence
