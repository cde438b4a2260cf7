"""Chinchilla's second approach finds each budget's best size, then fits a power law to those.

At each compute budget a curve of log loss over ln N is fitted and its minimum taken: a parabola
through all points (Hoffmann et al., 2203.15556), one through those about the least, or Akima's
interpolation (Porian et al., 2406.19146). A budget is dropped, and the reason kept, where the
minimum is at the edge of its sizes or the parabola opens downward. ln N* is then fitted to ln C by
least squares with weights of one over N*'s variance.

Intervals come from repeatedly adding noise to a smooth curve through each budget; its size is the
scatter of points about their parabolas. (Noise added to the observed points would move the minimum
of an interpolation further than one run's noise does.) The size of the noise is estimated from few
points, so it is drawn too, from its chi-squared distribution. Where the minima scatter about the
line more than noise would allow in 95 % of cases, deviations are widened by the ratio of the
scatter to its expectation (Birge, 1932).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.frontier import Frontier
from jaxgen.laws.minima import (
    CURVES,
    LEAST_SIZES,
    fit_curves,
    residuals,
    same_sizes,
    smoothed,
)
from jaxgen.laws.table import Table
from jaxgen.laws.token_flops import token_flops_of

GAP = 0.25
"""Distance in ln C beyond which runs belong to different budgets, unless budgets are named."""
SIGNIFICANT = 0.95
"""Quantile of the scatter of minima about their line beyond which intervals are widened."""
FLOOR = 1 / 3
"""Least standard deviation of ln N*, in steps between sizes (Porian et al.)."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """A budget and its best model.

    Attributes:
      flops: geometric mean of its runs' FLOPs.
      runs: number of runs.
      parameters: N*; NaN where dropped.
      loss: loss at the minimum; NaN where dropped.
      standard_error: of ln N*, with its floor; NaN where dropped or without bootstraps.
      dropped: why the budget is left out, else empty.
    """

    flops: float
    runs: int
    parameters: float
    loss: float
    standard_error: float
    dropped: str


@dataclasses.dataclass(frozen=True, eq=False)
class IsoFlop:
    """The second approach's result.

    Attributes:
      frontier: N*(C) and D*(C).
      budgets: each budget's minimum, in rising order.
      curve: the curve that was fitted.
      noise: standard deviation of the log loss that was assumed.
      scatter: scatter of the minima about the line over its expectation; it widens intervals
        where it is significantly above 1.
    """

    frontier: Frontier
    budgets: tuple[Budget, ...]
    curve: str
    noise: float
    scatter: float


def fit_isoflop(
    table: Table,
    curve: str = "quadratic",
    budgets: Sequence[float] | None = None,
    noise: float | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
) -> IsoFlop:
    """Fits N*(C) and D*(C) to runs of several sizes at each of some budgets.

    Args:
      table: finished runs.
      curve: `quadratic`, `local` (the five points about the least) or `akima`.
      budgets: FLOPs; a run belongs to the nearest, and to none where that is more than 12 % off. By
        default runs are split where their FLOPs leave a gap of more than 25 %.
      noise: standard deviation of a run's log loss between seeds; by default that of points about
        parabolas through their budget's five points about the least.
      bootstraps: number of noisy copies; 0 for none.
      seed: seed of the noise.

    Raises:
      LawError: fewer than two budgets are left, or the noise cannot be estimated.
    """
    if curve not in CURVES:
        raise LawError(f"curve={curve!r} must be one of {', '.join(CURVES)}.")
    groups = _groups(table, budgets)
    errors, freedom = residuals(table, groups)
    if noise is None:
        if not freedom and bootstraps:
            raise LawError(
                "no budget has more than three sizes, so the noise of a run cannot be estimated; "
                "give noise= (of the log loss), or set bootstraps=0."
            )
        noise = float(np.sqrt(np.sum(errors**2) / freedom)) if freedom else 0.0
    else:
        freedom = np.inf
    rng = np.random.default_rng(seed)
    sizes = np.full(bootstraps, noise)
    if np.isfinite(freedom) and bootstraps:
        sizes = noise * np.sqrt(freedom / rng.chisquare(freedom, bootstraps))
    found, minima, draws = [], [], []
    for group in groups:
        logs, losses = np.log(table.parameters[group]), np.log(table.loss[group])
        flops = float(np.exp(np.mean(np.log(table.flops[group]))))
        noise_of_runs = sizes[:, None] * rng.standard_normal((bootstraps, len(group)))
        for centre in (smoothed(logs, losses), losses):
            copies = np.vstack([losses, centre, centre + noise_of_runs])
            places, lowest, reason = fit_curves(curve, logs, copies)
            if not np.isnan(places[1]):
                break  # Else the smooth curve has no minimum, and the points are used instead.
        # The noise's shifts of the minimum, centred on the minimum observed.
        moved = places[0] + (places[2:] - places[1])
        steps = np.ptp(logs) / max(1, same_sizes(logs).max())
        error = np.nan
        if not reason and bootstraps:
            error = max(FLOOR * steps, float(np.nanstd(moved)))
        found.append(
            Budget(
                flops, len(group), float(np.exp(places[0])), float(np.exp(lowest[0])), error, reason
            )
        )
        if not reason:
            minima.append((np.log(flops), places[0], error if bootstraps else 1.0))
            draws.append(moved)
    frontier, scatter = _line(table, found, np.array(minima), np.array(draws).T, noise, curve)
    return IsoFlop(frontier, tuple(found), curve, noise, scatter)


def _line(table, found, minima, draws, noise, curve) -> tuple[Frontier, float]:
    if len(minima) < 2:
        reasons = "; ".join(f"{budget.flops:.3g}: {budget.dropped or 'kept'}" for budget in found)
        raise LawError(f"fewer than two budgets have a minimum ({reasons}); add sizes around it.")
    from scipy.stats import chi2

    logs, places, errors = minima.T
    weights = 1 / errors**2
    log_size, exponent = weighted_line(logs, places, weights)
    scatter = factor = 1.0
    log_sizes = exponents = np.zeros(0)
    if len(draws):
        log_sizes, exponents = weighted_line(logs, draws, weights)
        if len(logs) > 2:
            # Without the floor of the standard error, which is only for the weights.
            own = np.maximum(np.nanstd(draws, axis=0), 1e-12)
            away = (places - log_size - exponent * logs) / own
            scatter = float(np.sqrt(np.sum(away**2) / (len(logs) - 2)))
            chance = float(np.sqrt(chi2.ppf(SIGNIFICANT, len(logs) - 2) / (len(logs) - 2)))
            factor = scatter if scatter > chance else 1.0
        exponents = exponent + factor * (exponents - exponent)
        log_sizes = log_size + factor * (log_sizes - log_size)
    frontier = Frontier(
        f"Chinchilla approach 2, {curve}",
        float(log_size),
        float(exponent),
        log_sizes,
        exponents,
        token_flops_of(table),
        float(table.flops.max()),
    )
    return frontier, scatter


def weighted_line(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the intercept and slope [...] of y [..., points] over x; NaN of y are left out."""
    weights = np.where(np.isnan(y), 0.0, weights)
    y = np.nan_to_num(y)
    total = weights.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        middle_x, middle_y = (weights * x).sum(-1) / total, (weights * y).sum(-1) / total
        away = x - middle_x[..., None]
        slope = (weights * away * y).sum(-1) / (weights * away**2).sum(-1)
    return middle_y - slope * middle_x, slope


def _groups(table: Table, budgets: Sequence[float] | None) -> list[np.ndarray]:
    """Returns the rows of each budget, in rising order."""
    logs = np.log(table.flops)
    if budgets is not None:
        away = np.abs(logs[:, None] - np.log(np.sort(budgets)))
        nearest = np.where(away.min(axis=1) <= GAP / 2, away.argmin(axis=1), -1)
        return [np.flatnonzero(nearest == place) for place in np.unique(nearest[nearest >= 0])]
    order = np.argsort(logs, kind="stable")
    cuts = np.flatnonzero(np.diff(logs[order]) > GAP) + 1
    groups = np.split(order, cuts)
    if all(len(group) < LEAST_SIZES for group in groups):
        raise LawError(
            f"no budget has {LEAST_SIZES} runs: of {len(table)} runs the flops make {len(groups)} "
            "groups. Give budgets=, or use runs of several sizes at equal flops."
        )
    return groups
