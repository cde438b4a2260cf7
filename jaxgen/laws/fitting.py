"""Any law is fitted from many starts; the best end is kept, and resamples start from there."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit, Search
from jaxgen.laws.huber_loss import HuberLoss, Problem, in_space
from jaxgen.laws.identification import check_identifiable, warnings_of, warnings_of_search
from jaxgen.laws.law import Law
from jaxgen.laws.least_squares import minimise_squares
from jaxgen.laws.minimising import minimise
from jaxgen.laws.resampling import bootstrap_weights, canonical_groups
from jaxgen.laws.table import (
    Columns,
    Table,
    check_bootstraps,
    check_enough,
    check_varies,
    find_column,
    floats,
)

REACHED = 1e-6
"""Relative difference of fit losses that count as one optimum."""
UNSTABLE = 1e-3
"""The same between the two ends of a bootstrap; see `Search`."""
ROUNDS, AROUND = 10, 16
"""Most rounds of searching again around the best end, and the starts of each."""
KEPT = ("parameters", "tokens", "flops")
"""Columns that a fit keeps beside its law's inputs: its runs' compute, and the cost of a token."""
EXACT = 1e-20
"""Fit loss of a point that is mere rounding, where a law goes through all points."""


@dataclasses.dataclass(frozen=True)
class Fitting:
    """A fitting sets how a law is fitted.

    Attributes:
      fit_loss: the loss that is minimised.
      bootstraps: number of resamples for standard errors and intervals; 0 for none.
      resample: the unit that is drawn: `run`, `seed` or a column's name; rows that share it are
        drawn together.
      seed: seed of the resamples.
      restarts: further starts of each resample, perturbed by a standard error.
    """

    fit_loss: HuberLoss = dataclasses.field(default_factory=HuberLoss)
    bootstraps: int = 200
    resample: str = "run"
    seed: int = 0
    restarts: int = 1

    def __post_init__(self):
        check_bootstraps(self.bootstraps)
        if self.restarts < 0:
            raise LawError(f"restarts={self.restarts} must not be negative.")


ROBUST = Fitting()
"""The Huber loss of log losses, with 200 bootstraps over runs."""


def fit_table(
    law: Law, table: Table, fitting: Fitting = ROBUST, target: str = "loss", **options
) -> Fit:
    """Fits a law to a column of a table; the options are those of `fit_law`."""
    _check_fitting(law, fitting)
    groups = table.groups(fitting.resample)
    return fit_law(law, table.columns, table.column(target), fitting, groups=groups, **options)


def fit_law(
    law: Law,
    columns: Columns,
    target: np.ndarray,
    fitting: Fitting = ROBUST,
    *,
    groups: np.ndarray | None = None,
    starts: np.ndarray | None = None,
) -> Fit:
    """Fits a law to points.

    Args:
      law: the law.
      columns: [points] each; at least the law's inputs.
      target: [points] to be predicted.
      fitting: how to fit.
      groups: [points] int from 0: points of one number are resampled together; by default each
        point is its own group.
      starts: [starts, parameters] where searches begin; the law's own by default.

    Raises:
      LawError: there are too few points, a column is missing, or no start gives a finite loss.
    """
    _check_fitting(law, fitting)
    target = floats("the target", target)
    kept = {name: find_column(columns, name) for name in law.inputs}
    kept |= {n: np.asarray(columns[n], float) for n in KEPT if n in columns and n not in kept}
    _check_points(law, kept, target, fitting.fit_loss)
    fit_loss = fitting.fit_loss
    groups = _check_groups(law, len(target), groups)
    groups = canonical_groups(groups, (*kept.values(), target))
    starts = law.starts(kept, target) if starts is None else _check_starts(law, starts)
    check_identifiable(law, kept, starts)
    evaluate = in_space(law.bind(kept), law.is_log, fit_loss.space)
    problem = Problem(evaluate, fit_loss, fit_loss.target(target), np.ones(len(target)))
    vector, value, search = _search(law.name, problem, starts)
    rng = np.random.default_rng(fitting.seed)
    resampled = bootstrap_weights(groups, fitting.bootstraps, len(law.parameters), rng)
    draws, unstable = _resample(problem, resampled, vector, fitting, rng)
    search = dataclasses.replace(search, unstable=unstable)
    told = list(warnings_of(law, fit_loss, kept, target, vector))
    if value > EXACT * len(target):
        told += warnings_of_search(search.starts, search.reached, unstable)
    return Fit(law, fit_loss, kept, target, vector, value, search, draws, fitting.seed, tuple(told))


def _check_fitting(law: Law, fitting: object) -> None:
    if not isinstance(fitting, Fitting):
        raise LawError(f"{law.name}: fitting={fitting!r:.60} must be a Fitting.")


def _check_points(law: Law, columns: Columns, target: np.ndarray, fit_loss: HuberLoss) -> None:
    for name, values in (*columns.items(), ("the target", target)):
        if values.shape != target.shape or values.ndim != 1:
            raise LawError(
                f"{law.name}: {name} has shape {values.shape} and the target {target.shape}; both "
                "must be one number a point."
            )
        if not np.all(np.isfinite(values)):
            row = int(np.argmin(np.isfinite(values)))
            raise LawError(f"{law.name}: {name}[{row}]={values[row]} must be finite; drop the row.")
    check_enough(law.name, len(target), len(law.parameters))
    least = {"log": 0.0, "log1p": -1.0}.get(fit_loss.space, -np.inf)
    if not np.all(target > least):
        row = int(np.argmin(target))
        raise LawError(
            f"{law.name}: the target is {target[row]:g} at point {row}; a loss of the space "
            f"{fit_loss.space!r} needs more than {least:g}. Use another space, or drop the point."
        )
    check_varies(f"{law.name}: the target", target)


def _check_groups(law: Law, points: int, groups: np.ndarray | None) -> np.ndarray:
    groups = np.arange(points) if groups is None else np.asarray(groups)
    if groups.shape != (points,):
        raise LawError(
            f"{law.name}: groups has shape {groups.shape}; it must be one number for each of "
            f"{points} points."
        )
    return np.unique(groups, return_inverse=True)[1].ravel()


def _check_starts(law: Law, starts: np.ndarray) -> np.ndarray:
    starts = np.atleast_2d(floats("starts", starts))
    if starts.ndim != 2 or starts.shape[1] != len(law.parameters) or not len(starts):
        raise LawError(
            f"{law.name}: starts has shape {starts.shape}; each row must be the "
            f"{len(law.parameters)} working parameters {', '.join(law.parameters)}."
        )
    return starts


def solve(problem: Problem, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimises from each start: by Levenberg and Marquardt for squares, else by BFGS.

    Args:
      problem: its replicates are the rows of starts.
      starts: [rows, parameters].

    Returns:
      The ends [rows, parameters] and their losses [rows].
    """
    return (minimise_squares if math.isinf(problem.fit_loss.delta) else minimise)(problem, starts)


def _search(name: str, problem: Problem, starts: np.ndarray) -> tuple[np.ndarray, float, Search]:
    ends, values = solve(problem, starts)
    if not np.any(np.isfinite(values)):
        raise LawError(f"{name}: none of {len(starts)} starts gives a finite loss.")
    # Once more from the best, with the curvature there.
    vector, value = solve(problem, ends[[int(np.argmin(values))]])
    vector, value = vector[0], float(value[0])
    if np.sum(values <= value * (1 + REACHED)) < len(starts) / 2:
        vector, value = _polish(problem, vector, value)
    reached = values <= value * (1 + REACHED) + EXACT * len(problem.targets)
    spread = float(np.max(np.ptp(ends[reached], axis=0), initial=0.0)) if reached.any() else 0.0
    worst = float(np.max(values[np.isfinite(values)]) / value) if value > 0 else 1.0
    return vector, value, Search(len(starts), int(reached.sum()), spread, worst)


def _polish(problem: Problem, vector: np.ndarray, value: float) -> tuple[np.ndarray, float]:
    """Searches again around the best end, until that gains nothing: few starts agreed on it."""
    rng = np.random.default_rng(0)
    least = EXACT * len(problem.targets)
    for _ in range(ROUNDS):
        if value <= least:
            break
        normal = problem.normal_equations(vector[None], np.zeros(1, int))[2][0]
        scale = np.sqrt(np.maximum(np.diagonal(normal), 1e-300))
        sizes, directions = np.linalg.eigh(normal / np.outer(scale, scale))
        # About as far as the fit loss does not rise much, and as far again in any direction.
        noise = np.sqrt(2 * value / len(problem.targets))
        along = directions * (noise / np.sqrt(np.maximum(sizes, 1e-12))) / scale[:, None]
        draws = rng.standard_normal((AROUND, len(vector)))
        near = draws[: AROUND // 2] @ along.T * rng.choice([1.0, 3.0], (AROUND // 2, 1))
        far = draws[AROUND // 2 :] * 0.2 * np.maximum(np.abs(vector), 0.1)
        # The end itself too, with the curvature there: it may lie on a ridge.
        own = np.zeros((1, len(vector)))
        ends, values = solve(problem, vector + np.concatenate([own, near, far]))
        best = int(np.argmin(values))
        gained = value - values[best]
        if gained > 0:
            vector, value = ends[best], float(values[best])
        if not gained > REACHED * value:
            break
    return vector, value


def _resample(
    problem: Problem,
    resampled: np.ndarray,
    vector: np.ndarray,
    fitting: Fitting,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """Returns optima [bootstraps, parameters] and `Search.unstable`, from counts of points."""
    count = len(resampled)
    again = dataclasses.replace(problem, weights=resampled)
    starts = np.repeat(vector[None], count, axis=0)
    if not count:
        return starts, 0.0
    first, first_values = solve(again, starts)
    ends, values = first, first_values.copy()
    # Quartiles, since some resamples may have diverged to where a term vanishes.
    size = np.subtract(*np.quantile(first, [0.75, 0.25], axis=0)) / 1.35
    for _ in range(fitting.restarts):
        others, other_values = solve(again, vector + size * rng.standard_normal(first.shape))
        is_better = other_values < values
        ends = np.where(is_better[:, None], others, ends)
        values = np.where(is_better, other_values, values)
    return ends, float(np.mean(values < first_values * (1 - UNSTABLE) - EXACT))
