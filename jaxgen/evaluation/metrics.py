"""Scores of one output and intervals over many, as pure functions of texts and numbers."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike


def edit_similarity(completion: Sequence[Hashable], reference: Sequence[Hashable]) -> float:
    """Returns 1 minus the Levenshtein distance over the longer length, from 0 to 1 if equal."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_similarity(completion, reference)


def edits(completion: Sequence[Hashable], reference: Sequence[Hashable]) -> int:
    """Returns the Levenshtein distance: insertions, deletions and substitutions."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance(completion, reference)


def bits_per_byte(log_probability: float, text: str) -> float:
    """Returns a text's bits per byte from its log-probability in nats; nan for an empty text."""
    size = len(text.encode())
    return -log_probability / (math.log(2) * size) if size else math.nan


def softmax(scores: ArrayLike) -> np.ndarray:
    """Maps [choices] log-scores to probabilities."""
    logs = np.asarray(scores, np.float64)
    powers = np.exp(logs - logs.max())
    return powers / powers.sum()


def brier(probabilities: np.ndarray, label: int) -> float:
    """Returns the squared distance of [choices] probabilities from the one-hot label, 0 to 2."""
    one_hot = np.arange(len(probabilities)) == label
    return float(np.sum(np.square(probabilities - one_hot)))


def calibration_error(confidences: ArrayLike, outcomes: ArrayLike, bins: int = 10) -> float:
    """Returns the expected calibration error: |confidence - accuracy| over bins of equal width.

    Guo et al., 1706.04599.
    """
    confidence, outcome = (np.asarray(x, np.float64) for x in (confidences, outcomes))
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for one in np.unique(number):
        inside = number == one
        error += inside.mean() * abs(confidence[inside].mean() - outcome[inside].mean())
    return float(error)


def calibration_interval(
    confidences: ArrayLike,
    outcomes: ArrayLike,
    bins: int = 10,
    confidence: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of `calibration_error`.

    The error of few instances is above 0 for a calibrated model too, and so is the interval.
    """
    sure, came = (np.asarray(x, np.float64) for x in (confidences, outcomes))
    drawn = np.random.default_rng(seed).integers(len(sure), size=(resamples, len(sure)))
    errors = [calibration_error(sure[rows], came[rows], bins) for rows in drawn]
    tail = (1 - confidence) / 2
    low, high = np.quantile(errors, [tail, 1 - tail])
    return float(low), float(high)


def reliability(
    confidences: ArrayLike, outcomes: ArrayLike, bins: int = 10
) -> list[dict[str, float]]:
    """Returns the reliability curve: of each bin of equal width that is not empty, its means.

    Returns:
      Rows with "confidence" and "outcome", the means; "low" and "high", the 95 % interval of the
      outcome; and "count".
    """
    sure, came = (np.asarray(x, np.float64) for x in (confidences, outcomes))
    number = np.minimum((sure * bins).astype(int), bins - 1)
    rows = []
    for one in np.unique(number):
        inside = came[number == one]
        low, high = mean_interval(inside)
        rows.append({
            "confidence": float(sure[number == one].mean()), "outcome": float(inside.mean()),
            "low": low, "high": high, "count": len(inside),
        })  # fmt: skip
    return rows


def success_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns Wilson's interval of a success rate (1927)."""
    from scipy.stats import binomtest

    found = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def mean_interval(
    values: ArrayLike, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of a mean over instances."""
    return ratio_interval(values, np.ones(np.shape(values)), confidence, resamples, seed)


def ratio_interval(
    values: ArrayLike,
    weights: ArrayLike,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of a sum over the sum of its weights."""
    sums, over = (np.asarray(one, np.float64) for one in (values, weights))
    drawn = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = sums[drawn].sum(axis=1) / over[drawn].sum(axis=1)
    low, high = np.nanquantile(ratios, [tail, 1 - tail])
    return float(low), float(high)
