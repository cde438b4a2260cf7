"""Chinchilla's second approach finds each budget's best size, then fits a power law to those.

At each compute budget a curve of log loss over ln N is fitted and its minimum taken: a parabola
through all points (Hoffmann et al., 2203.15556), one through those about the least, or Akima's
interpolation (Porian et al., 2406.19146). A budget is dropped, and the reason kept, where the
minimum is at the edge of its sizes or the parabola opens downward. ln N* is then fitted to ln C by
least squares. Budgets weigh equally, or by one over the variance of their ln N*; where minima
scatter about the line more than noise would allow in 95 % of cases, that variance has a second
term, common to all budgets, which makes the scatter what it is (Paule and Mandel, 1982).

Standard errors and intervals come from adding noise to a smooth curve through each budget; its size
is the scatter of points about their parabolas. (Noise added to the observed points would move the
minimum of an interpolation further than one run's noise does.) The size of the noise is estimated
from few points, so for intervals it is drawn too, from its chi-squared distribution, and so is the
second term of the variance. Standard errors, and with them the weights, come from draws of their
own: how many bootstraps are asked for, and from which seed, moves no estimate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from jaxgen.laws.budgets import group_by_compute
from jaxgen.laws.errors import LawError
from jaxgen.laws.frontier import Frontier
from jaxgen.laws.lines import IMMATERIAL, excess_variance, fit_best_loss, weighted_line
from jaxgen.laws.minima import (
    CURVES,
    fit_curves,
    residuals,
    same_sizes,
    smoothed,
)
from jaxgen.laws.plotting import figure_of_isoflop
from jaxgen.laws.summary import text_of_isoflop, values_of_isoflop
from jaxgen.laws.table import Table, check_bootstraps, check_varies
from jaxgen.laws.token_flops import OFF_COST, token_flops_of, worst_cost

WEIGHTS = ("equal", "variance")
SURE = 0.999
"""Probability that points do not scatter more than a warning needs, if the noise is as given."""
COPIES = 1000
"""Noisy copies of each budget from which its standard error is found."""
MANY = 0.1
"""Share of runs in no budget from which it is warned of."""
LOOSE = 0.1
"""Difference in ln C within a budget from which it is warned of."""
FLOOR = 1 / 3
"""Least standard deviation of ln N*, in steps between sizes (Porian et al.)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Budget:
    """A budget and its best model.

    Attributes:
      flops: geometric mean of its runs' FLOPs.
      runs: number of runs.
      parameters: N*; NaN where dropped.
      loss: loss at the minimum; NaN where dropped.
      standard_error: of ln N*, with its floor; NaN where dropped or where the noise is unknown.
      dropped: why the budget is left out, else empty.
      rows: the table's rows that belong to it, by rising size.
      sizes: parameters of those runs.
      losses: of those runs.
    """

    flops: float
    runs: int
    parameters: float
    loss: float
    standard_error: float
    dropped: str
    rows: np.ndarray
    sizes: np.ndarray
    losses: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class IsoFlop:
    """The second approach's result.

    Attributes:
      frontier: N*(C) and D*(C).
      budgets: each budget's minimum, in rising order.
      curve: the curve that was fitted.
      weights: how budgets weigh, `equal` or `variance`.
      grouping: how runs were grouped into budgets, in words.
      noise: standard deviation of the log loss that was assumed; NaN where it is unknown.
      scatter: scatter of the minima about the line over what noise leads to; NaN where unknown.
      excess: standard deviation of ln N* beyond noise, 0 where the scatter is not significant.
    """

    frontier: Frontier
    budgets: tuple[Budget, ...]
    curve: str
    weights: str
    grouping: str
    noise: float
    scatter: float
    excess: float

    def __repr__(self) -> str:
        return self.summary()

    def summary(self, level: float = 0.95) -> str:
        """Returns how budgets were found, their minima, best models and warnings as text."""
        return text_of_isoflop(self, level)

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Returns the same as plain values for JSON; numbers that are not finite are None."""
        return values_of_isoflop(self, level)

    def plot(self, level: float = 0.95) -> Any:
        """Returns a matplotlib figure of the budgets, their minima and the line through them."""
        return figure_of_isoflop(self, level)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Returns why not to trust it, a sentence each."""
        return self.frontier.warnings


def fit_isoflop(
    table: Table,
    curve: str = "quadratic",
    budgets: Sequence[float] | None = None,
    noise: float | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
    weights: str = "equal",
) -> IsoFlop:
    """Fits N*(C) and D*(C) to runs of several sizes at each of some budgets.

    Args:
      table: finished runs.
      curve: `quadratic`, `local` (the five points about the least) or `akima`.
      budgets: FLOPs; a run belongs to the nearest, and to none where that is more than 12 % off. By
        default budgets are found by the gaps between the runs' FLOPs, see `group_by_compute`.
      noise: standard deviation of a run's log loss between seeds; by default that of points about
        parabolas through their budget's five points about the least.
      bootstraps: number of noisy copies for intervals; 0 for none. It moves no estimate.
      seed: seed of the noise of intervals.
      weights: `equal`, as in the paper, or `variance`: one over that of each budget's ln N*.

    Raises:
      LawError: there are no budgets, fewer than two of them have a minimum, or the noise that is
        needed cannot be estimated.
    """
    for name, value, known in (("curve", curve, CURVES), ("weights", weights, WEIGHTS)):
        if value not in known:
            raise LawError(f"{name}={value!r} must be one of {', '.join(known)}.")
    check_bootstraps(bootstraps)
    check_varies("the loss", table.loss)
    grouping = group_by_compute(table, budgets)
    errors, freedom = residuals(table, grouping.rows)
    misfit = ()
    if noise is not None:
        if not (isinstance(noise, Real) and 0 <= noise < np.inf):
            raise LawError(f"noise={noise} must be a standard deviation, 0 or more.")
        misfit = _misfit(float(np.sum(errors**2)), freedom, float(noise))
        freedom = np.inf
    elif freedom:
        noise = float(np.sqrt(np.sum(errors**2) / freedom))
    elif bootstraps or weights == "variance":
        raise LawError(
            "no budget has more than three sizes, so the noise of a run cannot be estimated; "
            "give noise= (of the log loss), or set bootstraps=0 and weights='equal'."
        )
    else:
        noise = float("nan")
    rng = np.random.default_rng(seed)
    sizes = np.full(bootstraps, noise)
    if np.isfinite(freedom) and bootstraps:
        sizes = noise * np.sqrt(freedom / rng.chisquare(freedom, bootstraps))
    found = [
        _minimum(table, rows, curve, noise, sizes[:, None], rng, place)
        for place, rows in enumerate(grouping.rows)
    ]
    kept = [one for one in found if not one[0].dropped]
    if len(kept) < 2:
        raise LawError(_too_few([one[0] for one in found]))
    frontier, scatter, excess = _line(table, kept, weights, curve, rng)
    result = tuple(one[0] for one in found)
    told = misfit + _warnings(table, result, curve, scatter, excess, grouping.left_out)
    frontier = dataclasses.replace(
        frontier,
        best_loss=fit_best_loss(*np.array([[b[0].flops, b[0].loss] for b in kept]).T),
        warnings=told,
    )
    return IsoFlop(frontier, result, curve, weights, grouping.sentence, noise, scatter, excess)


def _misfit(squares: float, freedom: int, noise: float) -> tuple[str, ...]:
    """Returns a warning if the noise that was given is less than the points about their curves."""
    from scipy.stats import chi2

    if not freedom or not noise or squares <= noise**2 * chi2.ppf(SURE, freedom):
        return ()
    observed = float(np.sqrt(squares / freedom))
    return (
        f"The losses scatter about parabolas through the least of each budget by {observed:.2g}, "
        f"and noise={noise:g} was given: the losses are no smooth curves of the size, or noise is "
        "larger.",
    )


def _minimum(
    table: Table,
    rows: np.ndarray,
    curve: str,
    noise: float,
    sizes: np.ndarray,
    rng: np.random.Generator,
    place: int,
) -> tuple[Budget, float, np.ndarray]:
    """Returns a budget, the standard error of its ln N* by noise alone, and draws of its ln N*.

    Args:
      table: the runs.
      rows: of the budget.
      curve: one of `CURVES`.
      noise: standard deviation of the log loss.
      sizes: [bootstraps, 1] draws of it.
      rng: of the draws.
      place: of the budget among the others.
    """
    logs, losses = np.log(table.parameters[rows]), np.log(table.loss[rows])
    own = np.random.default_rng([COPIES, place])
    spread = 0.0 if np.isnan(noise) else noise
    noises = np.vstack([
        spread * own.standard_normal((COPIES, len(rows))),
        sizes * rng.standard_normal((len(sizes), len(rows))),
    ])  # fmt: skip
    for centre in (smoothed(logs, losses), losses):
        places, lowest, reason = fit_curves(
            curve, logs, np.vstack([losses, centre, centre + noises])
        )
        if not np.isnan(places[1]):
            break  # Else the smooth curve has no minimum, and the points are used instead.
    error = floor = np.nan
    if not reason and not np.isnan(noise):
        error = max(IMMATERIAL, float(np.nanstd(places[2 : 2 + COPIES])))
        floor = FLOOR * np.ptp(logs) / max(1, same_sizes(logs).max())
    budget = Budget(
        float(np.exp(np.mean(np.log(table.flops[rows])))),
        len(rows),
        float(np.exp(places[0])),
        float(np.exp(lowest[0])),
        max(floor, error),
        reason,
        rows,
        table.parameters[rows],
        table.loss[rows],
    )
    # The noise's shifts of the minimum, centred on the minimum observed.
    return budget, error, places[0] + (places[2 + COPIES :] - places[1])


def _too_few(found: Sequence[Budget]) -> str:
    reasons = "; ".join(f"{budget.flops:.3g}: {budget.dropped or 'kept'}" for budget in found)
    text = f"fewer than two budgets have a minimum ({reasons}); add sizes around it."
    if all("downward" in budget.dropped for budget in found):
        text += " Is the loss one that falls with scale? An accuracy has maxima instead."
    return text


def _line(table, kept, weights, curve, rng) -> tuple[Frontier, float, float]:
    logs = np.log([one[0].flops for one in kept])
    places = np.log([one[0].parameters for one in kept])
    own = np.array([one[1] for one in kept])
    floored = np.array([one[0].standard_error for one in kept])
    draws = np.array([one[2] for one in kept]).T

    def line(excess: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        even = np.ones(len(logs))
        weighing = even if weights == "equal" else 1 / (floored**2 + excess)
        log_size, exponent = weighted_line(logs, places, weighing)
        return log_size, exponent, weighing

    def squares(excess: float) -> float:
        log_size, exponent, _ = line(excess)
        away = places - log_size - exponent * logs
        # Without the floor of the standard error, which is only for the weights.
        return float(np.sum(away**2 / (own**2 + excess)))

    scatter, excess = float("nan"), 0.0
    freedom = len(logs) - 2
    if freedom and not np.isnan(own).any():
        scatter = float(np.sqrt(squares(0.0) / freedom))
        excess = excess_variance(squares, freedom, float(np.ptp(places)))
    log_size, exponent, weighing = line(excess)
    draws = draws + np.sqrt(excess) * rng.standard_normal(draws.shape)
    log_sizes, exponents = weighted_line(logs, draws, weighing)
    frontier = Frontier(
        f"Chinchilla approach 2, {curve}",
        float(log_size),
        float(exponent),
        log_sizes,
        exponents,
        token_flops_of(table),
        float(table.flops.max()),
    )
    return frontier, scatter, float(np.sqrt(excess))


def _warnings(
    table: Table,
    found: Sequence[Budget],
    curve: str,
    scatter: float,
    excess: float,
    left_out: int,
) -> tuple[str, ...]:
    told = []
    kept = [budget for budget in found if not budget.dropped]
    if excess:
        others = " or ".join(repr(other) for other in CURVES if other != curve)
        told.append(
            f"The minima scatter about the line {scatter:.1f} times as much as the noise explains: "
            f"the curve ({curve}) may not fit the losses, or the line the minima. Compare "
            f"curve={others}; intervals are widened by the excess."
        )
    if dropped := [budget for budget in found if budget.dropped]:
        reasons = "; ".join(f"{budget.flops:.3g}: {budget.dropped}" for budget in dropped)
        told.append(f"{len(dropped)} of {len(found)} budgets are left out ({reasons}).")
    if left_out > MANY * len(table):
        told.append(f"{left_out} of {len(table)} runs belong to no budget and are left out.")
    if len(kept) == 2:
        told.append("Two budgets determine the line, so nothing shows whether it is one.")
    loose = max(float(np.ptp(np.log(table.flops[budget.rows]))) for budget in kept)
    if loose > LOOSE:
        told.append(f"FLOPs differ by up to {100 * np.expm1(loose):.0f} % within a budget.")
    flops, losses = (np.log([getattr(b, of) for b in kept]) for of in ("flops", "loss"))
    if weighted_line(flops, losses, np.ones(len(kept)))[1] >= 0:
        told.append("The best loss does not fall with compute. Is it a loss, or an accuracy?")
    if (off := worst_cost(table)) > OFF_COST:
        told.append(
            f"A token's FLOPs are off a power of the size by up to {100 * off:.0f} %, and D* with "
            "them."
        )
    return tuple(told)
