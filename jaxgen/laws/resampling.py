"""Bootstrap weights resample runs, and percentile intervals summarise the results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxgen.laws.errors import LawError

MAX_DRAWS = 1000
"""Attempts at a resample with enough different runs before giving up."""


def canonical_groups(groups: np.ndarray, columns: Sequence[np.ndarray]) -> np.ndarray:
    """Renumbers groups by their first point in order of its values, [points] int from 0.

    Resamples then do not depend on the order in which the points are given.

    Args:
      groups: [points] int from 0.
      columns: [points] each.
    """
    place = np.empty(len(groups), int)
    place[np.lexsort(tuple(columns))] = np.arange(len(groups))
    first = np.full(int(groups.max()) + 1, len(groups))
    np.minimum.at(first, groups, place)
    return np.argsort(np.argsort(first))[groups]


def bootstrap_weights(
    groups: np.ndarray, count: int, least: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns how often each point is in each resample, [count, points]; groups stay whole.

    Resamples with fewer than `least` different groups are drawn again: a law of that many
    parameters goes through all their points, and its parameters mean nothing.

    Args:
      groups: [points] int from 0: points of one number are drawn together.
      count: number of resamples.
      least: different groups that each must have.
      rng: the random generator.
    """
    total = int(groups.max()) + 1
    if count and total <= least:
        raise LawError(
            f"{total} runs (or groups of runs) are too few to bootstrap a law of {least} "
            "parameters; resample by something finer, add runs, or set bootstraps=0."
        )
    draws = np.zeros((count, total))
    missing = np.arange(count)
    for _ in range(MAX_DRAWS):
        draws[missing] = rng.multinomial(total, np.full(total, 1 / total), size=len(missing))
        missing = missing[np.count_nonzero(draws[missing], axis=1) < least]
        if not len(missing):
            return draws[:, groups]
    raise LawError(
        f"{total} runs hardly ever give a resample with {least} different ones, as the law's "
        "parameters need; add runs or set bootstraps=0."
    )


def interval(draws: np.ndarray, level: float) -> np.ndarray:
    """Returns the percentile interval [..., 2] of draws [draws, ...] at a level."""
    if not 0 < level < 1:
        raise LawError(f"level={level} must be between 0 and 1.")
    if not len(draws):
        return np.full((*draws.shape[1:], 2), np.nan)
    tail = (1 - level) / 2
    # Interpolation between two infinite draws gives NaN.
    with np.errstate(invalid="ignore"):
        return np.moveaxis(np.nanquantile(draws, [tail, 1 - tail], axis=0), 0, -1)
