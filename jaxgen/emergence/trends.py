"""Laws of a metric's mean over log scale, with and without a break, and how well each predicts.

Without a break (gradual):
  straight   y = a + b x                            linear in log scale
  power      y = a + b exp(-r x)                    a power law of scale with a floor, r > 0
  bend       y = a + b sigmoid(k (x - c))           10 to 90 % over at least half of the range
With a break (sudden):
  hinge      y = a + b x + d max(0, x - c)          piecewise linear, one break
  step       y = a + b sigmoid(k (x - c))           10 to 90 % within less than half of the range
  drop       y = a + b min(x, c) + d sigmoid(k (x - c))    the same after a slow beginning

Here x is log scale over its whole range, from 0 to 1. Each law is linear but in one or two
parameters, which are averaged over a grid with the weight of their likelihood, given the noise of
a scale's mean that the seeds show. So a step that may lie anywhere between two scales is predicted
there as halfway, no fit depends on a starting point, and where a break is has an interval: the
range of c that holds 95 % of the weight.
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
"""Four to place a slow beginning, a change and an end, one held out and one to spare."""
STEEPNESS_OF_HALF = 2 * np.log(9) / 0.5
"""k of a sigmoid whose 10 to 90 % take half of the range."""
LEAST_NOISE = 1e-3
"""Of a mean, as a share of the curve's range: no law is taken to be exact."""


@dataclasses.dataclass(frozen=True)
class Trend:
    """What the laws make of one curve.

    Attributes:
      metric: whose.
      heldout: law -> mean absolute error on scales it was not fitted to, first and last scale
        excepted, as a share of the curve's range.
      residual: law -> root mean square error on the scales it was fitted to, likewise.
      places: law with a break -> where it is, in the unit of the axis, with its interval.
      noise: standard error of a scale's mean, likewise.
      extent: the range of the scales' means, in the metric's unit.
      rise: mean over the last scale less that over the first.
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
        """The law without a break that predicts best."""
        return min(GRADUAL, key=self.heldout.__getitem__)

    @property
    def sudden(self) -> str:
        """The law with a break that predicts best."""
        return min(SUDDEN, key=self.heldout.__getitem__)


def fit_trend(runs: Runs, metric: str) -> Trend:
    """Fits all laws to a metric's means over the scales.

    Raises:
      EmergenceError: fewer than 6 scales, or a metric that is the same at all.
    """
    means = runs.means(metric)
    if len(means) < FEWEST_SCALES:
        raise EmergenceError(
            f"task {runs.task!r} has {len(means)} scales: laws need {FEWEST_SCALES} or more."
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
    """Of a scale's mean, pooled over the scales; 0 where no scale has two seeds."""
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
      noise: standard error of a `y`.

    Returns:
      [places].
    """
    coefficients, weights = _fit(law, x, y, noise)
    return weights @ (_shapes(law, at) @ coefficients)[..., 0]


def find_break(law: str, x: np.ndarray, y: np.ndarray, noise: float) -> np.ndarray:
    """[low, middle, high] place of a law's break in x: 2.5, 50 and 97.5 % of the weight.

    The outer two are half a step of the grid further out, since places between are not tried.
    """
    _, weights = _fit(law, x, y, noise)
    places, where = np.unique(_grid(law)[1], return_inverse=True)
    so_far = np.cumsum(np.bincount(where.ravel(), weights))
    which = np.minimum(np.searchsorted(so_far, [0.025, 0.5, 0.975]), len(places) - 1)
    half = (places[1] - places[0]) / 2
    return np.clip(places[which] + np.array([-half, 0.0, half]), 0, 1)


def _fit(law: str, x: np.ndarray, y: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """[grid, coefficients, 1] by least squares, and [grid] weights that sum to 1."""
    shapes = _shapes(law, x)
    # A tiny ridge decides between shapes that the points do not tell apart.
    gram = shapes.transpose(0, 2, 1) @ shapes
    gram += 1e-9 * np.eye(gram.shape[-1])
    coefficients = np.linalg.solve(gram, shapes.transpose(0, 2, 1) @ y[:, None])
    error = (((shapes @ coefficients)[..., 0] - y) ** 2).sum(1)
    likelihood = np.exp(-(error - error.min()) / (2 * max(noise, LEAST_NOISE) ** 2))
    return coefficients, likelihood / likelihood.sum()


def _grid(law: str) -> tuple[np.ndarray, np.ndarray]:
    """[grid] steepness and [grid] place of a law's change; of a hinge the place alone matters."""
    if law == "hinge":
        places = np.linspace(0.04, 0.96, 47)
        return np.full(len(places), np.inf), places
    # At 200 a change takes a fiftieth of the range, less than any design resolves.
    sharp = np.geomspace(STEEPNESS_OF_HALF * 1.1, 200, 14)
    steep = np.geomspace(1, STEEPNESS_OF_HALF, 8) if law == "bend" else sharp
    steepness, places = np.meshgrid(steep, np.linspace(0, 1, 41))
    return steepness.ravel(), places.ravel()


def _shapes(law: str, x: np.ndarray) -> np.ndarray:
    """[points] -> [grid, points, coefficients]: what a law is a linear combination of."""
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
    """Of [points] or [grid, points] each -> [grid, points, parts]."""
    return np.stack([*np.broadcast_arrays(*parts)], axis=-1)
