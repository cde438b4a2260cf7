"""Minima of log loss over ln N are found for many noisy copies of the losses at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxgen.laws.table import Table

CURVES = ("quadratic", "local", "akima")
LEAST_SIZES = 3
"""Sizes of a budget that a parabola needs."""
LEAST_AKIMA = 5
LOCAL_POINTS = 5
"""Points of a local parabola: the least one and its neighbours."""
MERGED = 0.05
"""Distance in ln N below which sizes are merged, since a curve through both would oscillate."""
FINE = 25
"""Points of Akima's curve between two sizes (Porian et al.)."""


def fit_curves(
    curve: str, logs: np.ndarray, losses: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str]:
    """Finds the minima of a budget's curves.

    Args:
      curve: one of `CURVES`.
      logs: [points] ln N.
      losses: [copies, points] log losses; the first row is the one observed.

    Returns:
      Places [copies] in ln N and heights [copies] of the minima, NaN where there is none; and why
      the observed curve has none, else an empty string.
    """
    needed = LEAST_AKIMA if curve == "akima" else LEAST_SIZES
    distinct = len(np.unique(same_sizes(logs)))
    nothing = np.full(len(losses), np.nan)
    if distinct < needed:
        return nothing, nothing, f"{distinct} sizes, {needed} are needed"
    if curve == "akima":
        return _akima(logs, losses)
    if curve == "local":
        kept = about_least(logs, losses[0])
        logs, losses = logs[kept], losses[:, kept]
    return _parabolas(logs, losses)


def about_least(logs: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Returns the indices of the points around the least loss."""
    which = same_sizes(logs)
    means = np.array([losses[which == size].mean() for size in range(which.max() + 1)])
    first = int(np.argmin(means)) - LOCAL_POINTS // 2
    first = min(max(0, first), max(0, len(means) - LOCAL_POINTS))
    return np.flatnonzero((which >= first) & (which < first + LOCAL_POINTS))


def same_sizes(logs: np.ndarray) -> np.ndarray:
    """Returns the size [points] of each point as an int from 0, in rising order.

    A size takes in those up to 5 % above its least; many close sizes thus make no chain.
    """
    order = np.argsort(logs, kind="stable")
    which = np.empty(len(logs), int)
    number, first = -1, -np.inf
    for place in order:
        if logs[place] - first > MERGED:
            number, first = number + 1, logs[place]
        which[place] = number
    return which


def smoothed(logs: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Fits a cubic to a budget's points, or a parabola where sizes are few; returns [points]."""
    degree = 3 if same_sizes(logs).max() >= LEAST_AKIMA - 1 else 2
    design = np.vander(logs - logs.mean(), min(degree, same_sizes(logs).max()) + 1)
    return design @ np.linalg.lstsq(design, losses, rcond=None)[0]


def residuals(table: Table, groups: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """Returns log losses about local parabolas, and their degrees of freedom.

    Far from its minimum a loss curve is no parabola, and that difference is not noise.
    """
    found, freedom = [np.zeros(0)], 0
    for group in groups:
        logs, losses = np.log(table.parameters[group]), np.log(table.loss[group])
        kept = about_least(logs, losses)
        if len(np.unique(same_sizes(logs[kept]))) < LEAST_SIZES or len(kept) <= LEAST_SIZES:
            continue
        design = _design(logs[kept])
        fitted = design @ np.linalg.lstsq(design, losses[kept], rcond=None)[0]
        found.append(losses[kept] - fitted)
        freedom += len(kept) - LEAST_SIZES
    return np.concatenate(found), freedom


def _design(logs: np.ndarray) -> np.ndarray:
    return np.vander(logs - logs.mean(), 3, increasing=True)


def _parabolas(logs: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    constant, slope, curvature = np.linalg.pinv(_design(logs)) @ losses.T
    with np.errstate(divide="ignore", invalid="ignore"):
        away = -slope / (2 * curvature)
    places = away + logs.mean()
    heights = constant + slope * away / 2
    opens_down = curvature <= 0
    is_edge = ~opens_down & ~((places > logs.min()) & (places < logs.max()))
    reason = "the parabola opens downward" if opens_down[0] else ""
    if is_edge[0]:
        reason = "the minimum is at the edge of the sizes"
    is_out = opens_down | is_edge
    return np.where(is_out, np.nan, places), np.where(is_out, np.nan, heights), reason


def _akima(logs: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    from scipy.interpolate import Akima1DInterpolator

    which = same_sizes(logs)
    groups = [which == size for size in range(which.max() + 1)]
    sizes = np.array([logs[group].mean() for group in groups])
    means = np.stack([losses[:, group].mean(axis=1) for group in groups])
    fine = np.linspace(sizes[0], sizes[-1], FINE * (len(sizes) - 1))
    curves = Akima1DInterpolator(sizes, means)(fine)
    best = curves.argmin(axis=0)
    is_edge = (best == 0) | (best == len(fine) - 1)
    reason = "the minimum is at the edge of the sizes" if is_edge[0] else ""
    heights = curves[best, np.arange(curves.shape[1])]
    return np.where(is_edge, np.nan, fine[best]), np.where(is_edge, np.nan, heights), reason
