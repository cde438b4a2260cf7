"""Exact match is predicted from the log probabilities of the same answers by one map.

The map, the same for all scales, gives the chance that an answer is exact: a logistic function of
the log odds of the whole answer and of one of its tokens (their geometric mean). Exact match as the
product of calibrated tokens, and as "every token more likely than not", both have this form. For
each scale the map is fitted to the other scales' answers and averaged over that scale's own, so
that the exact match of a scale is predicted from its log probabilities alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from jaxgen.emergence.table import TaskRows

ITERATIONS = 30
RIDGE = 1e-3
"""Ridge on standardised features; the map stays finite where exact answers separate from others."""
LOG_ODDS = 30.0
"""Largest magnitude of log odds; larger ones are clipped."""


@dataclasses.dataclass(frozen=True)
class ExactMatchPrediction:
    """Observed and predicted exact match.

    Attributes:
      observed: [rungs] means over a scale's answers.
      predicted: [rungs].
      half_width: [rungs] half the 95 % interval of their difference, over seeds and instances.
    """

    observed: np.ndarray
    predicted: np.ndarray
    half_width: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """Returns observed less predicted, [rungs]."""
        return self.observed - self.predicted


def predict_exact_match(rows: TaskRows) -> ExactMatchPrediction:
    """Predicts each scale from its log probabilities, by the map of the other scales."""
    features, exact = _features(rows), rows.metrics["exact_match"]
    observed, predicted, width = (np.empty(rows.num_rungs) for _ in range(3))
    for rung in range(rows.num_rungs):
        out = rows.rung == rung
        chance = expit(features[out] @ fit_logistic(features[~out], exact[~out]))
        observed[rung], predicted[rung] = exact[out].mean(), chance.mean()
        residual = exact[out] - chance
        variance = _clustered(residual, rows.seed[out]) + _clustered(residual, rows.instance[out])
        # Where no answer is exact the residuals do not vary, though one might have been.
        variance = max(variance, float((chance * (1 - chance)).sum()) / len(chance) ** 2)
        width[rung] = norm.ppf(0.975) * np.sqrt(variance)
    return ExactMatchPrediction(observed, predicted, width)


def fit_logistic(features: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Fits weights [features] to targets [rows] in [0, 1], by Newton's method with a ridge."""
    weights = np.zeros(features.shape[1])
    for _ in range(ITERATIONS):
        chance = expit(features @ weights)
        gradient = features.T @ (target - chance) - RIDGE * weights
        curvature = (features.T * (chance * (1 - chance))) @ features
        step = np.linalg.solve(curvature + RIDGE * np.eye(len(weights)), gradient)
        # A full step may overshoot where the classes are nearly apart.
        weights = weights + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return weights


def _features(rows: TaskRows) -> np.ndarray:
    """Returns 1 and the standardised log odds of an answer and of one of its tokens, [rows, 3]."""
    answer = np.minimum(rows.metrics["log_probability"], 0)
    columns = []
    for value in (answer, answer / rows.metrics["answer_tokens"]):
        odds = np.clip(value - np.log(-np.expm1(np.minimum(value, -1e-13))), -LOG_ODDS, LOG_ODDS)
        columns.append((odds - odds.mean()) / max(float(odds.std()), 1e-12))
    return np.stack([np.ones(len(answer)), *columns], axis=1)


def _clustered(residual: np.ndarray, names: np.ndarray) -> float:
    """Returns the variance of the mean of residuals that are correlated within a name."""
    _, cluster = np.unique(names, return_inverse=True)
    sums = np.bincount(cluster, residual - residual.mean())
    count = len(sums)
    return float((sums**2).sum() / len(residual) ** 2 * count / max(count - 1, 1))
