"""Exact match as it would be if it knew no more than the log probability of the same answer.

One map, the same for all scales, from an answer's log probability to the chance that it is exactly
right: a logistic function of the log odds of the whole answer and of a token of it (their geometric
mean). Exact match as the product of calibrated tokens, and as "every token more likely than not",
are both of this form. For each scale the map is fitted to the other scales' answers and averaged
over that scale's own, so a scale's exact match is predicted from its log probabilities alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from jaxgen.emergence.table import TaskRows

ITERATIONS = 30
RIDGE = 1e-3
"""On standardised features: keeps the map finite where right and wrong answers do not overlap."""
LOG_ODDS = 30.0
"""Beyond these, log odds are cut."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Observed and predicted exact match.

    Attributes:
      observed: [rungs], means over a scale's answers.
      predicted: [rungs].
      half_width: [rungs], of the 95 % interval of their difference, over seeds and instances.
    """

    observed: np.ndarray
    predicted: np.ndarray
    half_width: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """[rungs], observed less predicted."""
        return self.observed - self.predicted


def predict_exact_match(rows: TaskRows) -> Prediction:
    """Of every scale, from its log probabilities and the map that the other scales show."""
    features, right = _features(rows), rows.metrics["exact_match"]
    observed, predicted, width = (np.empty(rows.num_rungs) for _ in range(3))
    for rung in range(rows.num_rungs):
        out = rows.rung == rung
        chance = expit(features[out] @ fit_logistic(features[~out], right[~out]))
        observed[rung], predicted[rung] = right[out].mean(), chance.mean()
        residual = right[out] - chance
        variance = _clustered(residual, rows.seed[out]) + _clustered(residual, rows.instance[out])
        # Where no answer is right the residuals do not spread, yet one might have been.
        variance = max(variance, float((chance * (1 - chance)).sum()) / len(chance) ** 2)
        width[rung] = norm.ppf(0.975) * np.sqrt(variance)
    return Prediction(observed, predicted, width)


def fit_logistic(features: np.ndarray, right: np.ndarray) -> np.ndarray:
    """[rows, features], [rows] in [0, 1] -> [features], by Newton's method with a small ridge."""
    weights = np.zeros(features.shape[1])
    for _ in range(ITERATIONS):
        chance = expit(features @ weights)
        gradient = features.T @ (right - chance) - RIDGE * weights
        curvature = (features.T * (chance * (1 - chance))) @ features
        step = np.linalg.solve(curvature + RIDGE * np.eye(len(weights)), gradient)
        # A full step may overshoot where the classes are nearly apart.
        weights = weights + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return weights


def _features(rows: TaskRows) -> np.ndarray:
    """[rows, 3]: 1, log odds of the answer, log odds of one of its tokens; the two standardised."""
    answer = np.minimum(rows.metrics["log_probability"], 0)
    columns = []
    for value in (answer, answer / rows.metrics["answer_tokens"]):
        odds = np.clip(value - np.log(-np.expm1(np.minimum(value, -1e-13))), -LOG_ODDS, LOG_ODDS)
        columns.append((odds - odds.mean()) / max(float(odds.std()), 1e-12))
    return np.stack([np.ones(len(answer)), *columns], axis=1)


def _clustered(residual: np.ndarray, names: np.ndarray) -> float:
    """Variance of the mean of residuals that are alike within a seed or an instance."""
    _, cluster = np.unique(names, return_inverse=True)
    sums = np.bincount(cluster, residual - residual.mean())
    count = len(sums)
    return float((sums**2).sum() / len(residual) ** 2 * count / max(count - 1, 1))
