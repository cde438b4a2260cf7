"""A task's curves over scale show every seed, their mean, and the share of seeds that succeed."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.intervals import Interval, bootstrap_mean, wilson
from jaxgen.emergence.runs import Runs


@dataclasses.dataclass(frozen=True)
class Point:
    """A curve at one scale.

    Attributes:
      scale: size in the unit of the axis.
      by_seed: pairs of seed and value, sorted by seed.
      mean: mean over seeds, with its interval.
    """

    scale: float
    by_seed: tuple[tuple[str, float], ...]
    mean: Interval


def curve(runs: Runs, metric: str, confidence: float = 0.95) -> list[Point]:
    """Returns one point a scale.

    The interval of exact match is Wilson's, for the effective number of independent answers (see
    `effective_trials`). Other metrics get a bootstrap over seeds, which is NaN for a single seed.
    """
    points = []
    for rung, scale in enumerate(runs.scale):
        here = runs.rung == rung
        values = runs.metric(metric)[here]
        if metric == "exact_match":
            trials = effective_trials(values, runs.instances[here])
            mean = wilson(float(values.mean()) * trials, trials, confidence)
        else:
            mean = bootstrap_mean(values, confidence)
        by_seed = sorted(zip(runs.seed[here].tolist(), values.tolist(), strict=True))
        points.append(Point(float(scale), tuple(by_seed), mean))
    return points


def effective_trials(shares: np.ndarray, instances: np.ndarray) -> float:
    """Returns how many independent answers the mean of shares [seeds] is worth.

    Answers of one model are correlated, and the variance between seeds shows how strongly. The
    number lies between that of the seeds and that of all answers.
    """
    total = float(instances.sum())
    mean = float(shares.mean())
    if len(shares) < 2 or not 0 < mean < 1:
        return total
    of_mean = float(shares.var(ddof=1)) / len(shares)
    if of_mean == 0:
        return total
    return float(np.clip(mean * (1 - mean) / of_mean, len(shares), total))


@dataclasses.dataclass(frozen=True)
class Success:
    """The seeds that have an ability at a scale.

    Attributes:
      scale: size in the unit of the axis.
      successes: number of seeds above the threshold.
      seeds: number of seeds.
      share: share of successes, with Wilson's interval.
    """

    scale: float
    successes: int
    seeds: int
    share: Interval


def success_curve(runs: Runs, threshold: float = 0.5, confidence: float = 0.95) -> list[Success]:
    """Returns p(success | scale).

    Args:
      runs: the runs of a task.
      threshold: exact match that counts as success, as a share of the way from chance to 1.
      confidence: confidence of the intervals.

    Raises:
      EmergenceError: the threshold is not between chance and 1.
    """
    if not 0 < threshold < 1:
        raise EmergenceError(
            f"threshold={threshold} must be between 0 (chance) and 1 (the ceiling), such as 0.5."
        )
    level = runs.chance + threshold * (1 - runs.chance)
    has = runs.metric("exact_match") > level
    counts = np.bincount(runs.rung, has).astype(int)
    return [
        Success(float(scale), int(count), int(seeds), wilson(int(count), int(seeds), confidence))
        for scale, count, seeds in zip(runs.scale, counts, runs.seeds, strict=True)
    ]
