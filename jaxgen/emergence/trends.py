"""Laws with and without a break are fitted to a metric's mean over log scale.

Without a break (gradual):
  straight   y = a + b x                            linear in log scale
  power      y = a + b exp(-r x)                    a power law of scale with a floor, r > 0
  bend       y = a + b sigmoid(k (x - c))           10 to 90 % over at least half of the range
With a break (sudden):
  hinge      y = a + b x + d max(0, x - c)          piecewise linear, one break
  step       y = a + b sigmoid(k (x - c))           10 to 90 % within less than half of the range
  drop       y = a + b min(x, c) + d sigmoid(k (x - c))    the same after a slow beginning

Here x is log scale, from 0 to 1 over its whole range. Each law is linear except in one or two
parameters. These are averaged over a grid, weighted by their likelihood under the noise that the
seeds show in a scale's mean. So no fit depends on a starting point, a step that may lie anywhere
between two scales is predicted halfway, and the place of a break has an interval: the range of c
with 95 % of the weight.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.intervals import Interval
from jaxgen.emergence.runs import Runs

GRADUAL = ("straight", "power", "bend")
SUDDEN = ("hinge", "step", "drop")
LAWS = (*GRADUAL, *SUDDEN)
FEWEST_SCALES = 6
"""Four scales place a slow beginning, a change and an end; one is held out, and one is spare."""
STEEPNESS_OF_HALF = 2 * np.log(9) / 0.5
"""k of a sigmoid whose 10 to 90 % take half of the range."""
LEAST_NOISE = 1e-3
"""Least noise of a mean, as a share of the curve's range, since no law is exact."""


@dataclasses.dataclass(frozen=True)
class Trend:
    """A trend has the fits of all laws to one curve. Errors are shares of the curve's range.

    Attributes:
      metric: the metric of the curve.
      heldout: law -> mean absolute error on held-out scales, all but the first and the last.
      residual: law -> root mean square error on the scales fitted.
      places: law with a break -> the place of the break on the axis, with its interval.
      noise: standard error of a scale's mean.
      extent: the range of the scales' means, in the metric's unit.
      rise: mean at the last scale less that at the first.
    """

    metric: str
    heldout: Mapping[str, float]
    residual: Mapping[str, float]
    places: Mapping[str, Interval]
    noise: float
    extent: float
    rise: float

    @property
    def gradual(self) -> str:
        """Returns the law without a break that predicts best."""
        return min(GRADUAL, key=self.heldout.__getitem__)

    @property
    def sudden(self) -> str:
        """Returns the law with a break that predicts best."""
        return min(SUDDEN, key=self.heldout.__getitem__)


def fit_trend(runs: Runs, metric: str) -> Trend:
    """Fits all laws to a metric's means over the scales.

    Raises:
      EmergenceError: there are fewer than 6 scales, or the metric is the same at all.
    """
    means = runs.means(metric)
    if (scales := len(np.unique(runs.scale))) < FEWEST_SCALES:
        raise EmergenceError(
            f"task {runs.task!r} has {scales} scales: laws need {FEWEST_SCALES} or more."
        )
    extent = float(np.ptp(means))
    if extent == 0:
        raise EmergenceError(f"{metric} of task {runs.task!r} is {means[0]:g} at every scale.")
    x = (runs.log_scale - runs.log_scale[0]) / np.ptp(runs.log_scale)
    noise = standard_error(runs, metric) / extent
    heldout, residual = {}, {}
    for law in LAWS:
        fitted = predict(law, x, means / extent, x, noise)
        residual[law] = float(np.sqrt(np.mean((fitted - means / extent) ** 2)))
        errors = []
        for out in range(1, len(x) - 1):
            kept = np.arange(len(x)) != out
            guess = predict(law, x[kept], means[kept] / extent, x[out : out + 1], noise)
            errors.append(abs(float(guess[0]) - means[out] / extent))
        heldout[law] = float(np.mean(errors))
    places = {}
    for law in SUDDEN:
        low, middle, high = find_break(law, x, means / extent, noise)
        logs = runs.log_scale[0] + np.array([middle, low, high]) * np.ptp(runs.log_scale)
        value, *bounds = np.exp(-logs if runs.axis == "loss" else logs).tolist()
        places[law] = Interval(value, min(bounds), max(bounds))
    rise = float(means[-1] - means[0])
    return Trend(metric, heldout, residual, places, noise, extent, rise)


def standard_error(runs: Runs, metric: str) -> float:
    """Returns the standard error of a scale's mean, pooled; 0 where no scale has two seeds."""
    squares = (runs.metric(metric) - runs.means(metric)[runs.rung]) ** 2
    freedom = len(runs.rung) - len(runs.scale)
    if freedom == 0:
        return 0.0
    return float(np.sqrt(squares.sum() / freedom * np.mean(1 / runs.seeds)))


def predict(law: str, x: np.ndarray, y: np.ndarray, at: np.ndarray, noise: float) -> np.ndarray:
    """Fits a law to points and gives its values elsewhere.

    Args:
      law: one of `LAWS`.
      x: [points] in [0, 1].
      y: [points].
      at: [places].
      noise: standard error of each `y`.

    Returns:
      [places].
    """
    coefficients, weights = _fit(law, x, y, noise)
    return weights @ (_shapes(law, at) @ coefficients)[..., 0]


def find_break(law: str, x: np.ndarray, y: np.ndarray, noise: float) -> np.ndarray:
    """Returns the place of a law's break in x at 2.5, 50 and 97.5 % of the weight.

    The outer two are half a grid step further out, since places in between are not tried.
    """
    _, weights = _fit(law, x, y, noise)
    places, where = np.unique(_grid(law)[1], return_inverse=True)
    so_far = np.cumsum(np.bincount(where.ravel(), weights))
    which = np.minimum(np.searchsorted(so_far, [0.025, 0.5, 0.975]), len(places) - 1)
    half = (places[1] - places[0]) / 2
    return np.clip(places[which] + np.array([-half, 0.0, half]), 0, 1)


def _fit(law: str, x: np.ndarray, y: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns least-squares coefficients [grid, coefficients, 1] and weights [grid] of sum 1."""
    shapes = _shapes(law, x)
    # A tiny ridge chooses between shapes that the points cannot tell apart.
    gram = shapes.transpose(0, 2, 1) @ shapes
    gram += 1e-9 * np.eye(gram.shape[-1])
    coefficients = np.linalg.solve(gram, shapes.transpose(0, 2, 1) @ y[:, None])
    error = (((shapes @ coefficients)[..., 0] - y) ** 2).sum(1)
    likelihood = np.exp(-(error - error.min()) / (2 * max(noise, LEAST_NOISE) ** 2))
    return coefficients, likelihood / likelihood.sum()


def _grid(law: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns steepness and place of a law's change, [grid] each; a hinge has no steepness."""
    if law == "hinge":
        places = np.linspace(0.04, 0.96, 47)
        return np.full(len(places), np.inf), places
    # At 200 a change takes a fiftieth of the range, less than any design resolves.
    sharp = np.geomspace(STEEPNESS_OF_HALF * 1.1, 200, 14)
    steep = np.geomspace(1, STEEPNESS_OF_HALF, 8) if law == "bend" else sharp
    steepness, places = np.meshgrid(steep, np.linspace(0, 1, 41))
    return steepness.ravel(), places.ravel()


def _shapes(law: str, x: np.ndarray) -> np.ndarray:
    """Returns a law's basis functions at points, [grid, points, coefficients]."""
    one = np.ones_like(x)
    if law == "straight":
        return np.stack([one, x], axis=-1)[None]
    if law == "power":
        rates = np.geomspace(0.05, 12, 40)[:, None]
        return _joined(one, (1 - np.exp(-rates * x)) / rates)
    k, c = (part[:, None] for part in _grid(law))
    if law == "hinge":
        return _joined(one, x, np.maximum(0, x - c))
    change = 1 / (1 + np.exp(-k * (x - c)))
    return _joined(one, np.minimum(x, c), change) if law == "drop" else _joined(one, change)


def _joined(*parts: np.ndarray) -> np.ndarray:
    """Stacks parts of [points] or [grid, points] to [grid, points, parts]."""
    return np.stack([*np.broadcast_arrays(*parts)], axis=-1)
