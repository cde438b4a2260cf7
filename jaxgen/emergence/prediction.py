"""Exact match is predicted from the log probabilities of the same answers by one map.

The map, the same for all scales, gives the chance that an answer is exact: a logistic function of
the log odds of the whole answer and of one of its tokens (their geometric mean). Exact match as the
product of calibrated tokens, and as "every token more likely than not", both have this form. For
each scale the map is fitted to the other scales' answers and averaged over that scale's own, so
that the exact match of a scale is predicted from its log probabilities alone.

A table of means has neither answers nor their lengths. There the map gives a run's exact match: a
logistic function of the log odds of a token and of its log probability. Between them lie the limits
of independent tokens, whose exact match is nearly exp(-length x loss) where it is small, and
1 - length x loss where it is near 1.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from jaxgen.emergence.runs import PER_TOKEN, Runs
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


def predict_from_means(runs: Runs) -> ExactMatchPrediction:
    """Predicts each scale from its runs' mean log probabilities, by the map of the other scales."""
    per_token, exact = np.minimum(runs.metric(PER_TOKEN), 0), runs.metric("exact_match")
    columns = [_standardised(_log_odds(per_token)), _standardised(per_token)]
    features = np.stack([np.ones(len(exact)), *columns], axis=1)
    predicted = np.empty(len(exact))
    for rung in range(len(runs.scale)):
        out = runs.rung == rung
        predicted[out] = expit(features[out] @ fit_logistic(features[~out], exact[~out]))
    return compare_means(runs, predicted)


def compare_means(runs: Runs, predicted: np.ndarray) -> ExactMatchPrediction:
    """Returns the means of exact match and of its predictions [runs] for each scale.

    The interval is that of the seeds, or of as many independent answers where it is wider.
    """
    error = runs.metric("exact_match") - predicted
    mean = np.bincount(runs.rung, error) / runs.seeds
    squares = np.bincount(runs.rung, (error - mean[runs.rung]) ** 2)
    of_seeds = squares / np.maximum(runs.seeds - 1, 1) / runs.seeds
    of_answers = np.bincount(runs.rung, predicted * (1 - predicted) / runs.instances)
    variance = np.maximum(of_seeds, of_answers / runs.seeds**2)
    return ExactMatchPrediction(
        runs.means("exact_match"),
        np.bincount(runs.rung, predicted) / runs.seeds,
        norm.ppf(0.975) * np.sqrt(variance),
    )


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
    values = (answer, answer / rows.metrics["answer_tokens"])
    columns = [_standardised(_log_odds(value)) for value in values]
    return np.stack([np.ones(len(answer)), *columns], axis=1)


def _log_odds(log_probability: np.ndarray) -> np.ndarray:
    odds = log_probability - np.log(-np.expm1(np.minimum(log_probability, -1e-13)))
    return np.clip(odds, -LOG_ODDS, LOG_ODDS)


def _standardised(column: np.ndarray) -> np.ndarray:
    return (column - column.mean()) / max(float(column.std()), 1e-12)


def _clustered(residual: np.ndarray, names: np.ndarray) -> float:
    """Returns the variance of the mean of residuals that are correlated within a name."""
    _, cluster = np.unique(names, return_inverse=True)
    sums = np.bincount(cluster, residual - residual.mean())
    count = len(sums)
    return float((sums**2).sum() / len(residual) ** 2 * count / max(count - 1, 1))
