"""A task's curves over scale: of each seed, of their mean, and the chance that a seed can do it."""

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
      scale: in the unit of the axis.
      by_seed: (seed, value), sorted by seed.
      mean: over seeds, with its interval.
    """

    scale: float
    by_seed: tuple[tuple[str, float], ...]
    mean: Interval


def curve(runs: Runs, metric: str, confidence: float = 0.95) -> list[Point]:
    """One point a scale.

    Exact match has Wilson's interval for the number of independent answers that its seeds' spread
    amounts to: never more than all answers, never fewer than the seeds. Anything else has a
    bootstrap over seeds, which is not a number for a single one.
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
    """[seeds], [seeds] -> how many independent answers the mean share is worth.

    Answers of one model are alike; the variance between seeds says how much. Where seeds agree
    no less than independent answers would, it is the number of all answers.
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
    """How many seeds have the ability at a scale.

    Attributes:
      scale: in the unit of the axis.
      successes: seeds above the threshold.
      seeds: how many there are.
      share: with Wilson's interval.
    """

    scale: float
    successes: int
    seeds: int
    share: Interval


def success_curve(runs: Runs, threshold: float = 0.5, confidence: float = 0.95) -> list[Success]:
    """p(success | scale).

    Args:
      runs: of a task.
      threshold: of exact match, as a share of the way from chance to 1.
      confidence: of the intervals.

    Raises:
      EmergenceError: a threshold that is not between chance and 1.
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
