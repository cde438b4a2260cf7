"""Fitting any law: many starts, the best end, and bootstraps from there."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.scaling.laws.errors import LawError
from jaxgen.scaling.laws.fit import Fit, Search
from jaxgen.scaling.laws.law import Evaluate, Law, jacobian
from jaxgen.scaling.laws.minimising import minimise
from jaxgen.scaling.laws.objective import Objective, Problem, in_space
from jaxgen.scaling.laws.resampling import bootstrap_weights
from jaxgen.scaling.laws.table import Columns, Table, check_enough, find_column

REACHED = 1e-6
"""Relative difference of objectives that are one optimum."""
UNSTABLE = 1e-3
"""The same between two ends of a bootstrap; see `Search`."""
METRIC_STARTS = 8
"""Of the starts, those at which the curvature of the first steps is taken."""


@dataclasses.dataclass(frozen=True)
class Fitting:
    """How a law is fitted.

    Attributes:
      objective: what is made small.
      bootstraps: resamples for standard errors and intervals; 0 for none.
      resample: what is drawn: `run`, `seed` or a column's name; rows that share it go together.
      seed: of the resamples.
      restarts: further starts of each resample, perturbed by a standard error.
    """

    objective: Objective = dataclasses.field(default_factory=Objective)
    bootstraps: int = 200
    resample: str = "run"
    seed: int = 0
    restarts: int = 1

    def __post_init__(self):
        if self.bootstraps < 0 or self.restarts < 0:
            raise LawError(
                f"bootstraps={self.bootstraps} and restarts={self.restarts} must not be negative."
            )


ROBUST = Fitting()
"""Huber's function of the log loss, 200 bootstraps by run."""


def fit_table(
    law: Law, table: Table, fitting: Fitting = ROBUST, target: str = "loss", **options
) -> Fit:
    """Fits a law to a column of a table; options are those of `fit_law`."""
    groups = table.groups(fitting.resample)
    return fit_law(law, table.columns, table.column(target), fitting, groups=groups, **options)


def fit_law(
    law: Law,
    columns: Columns,
    target: np.ndarray,
    fitting: Fitting = ROBUST,
    *,
    groups: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    starts: np.ndarray | None = None,
) -> Fit:
    """Fits a law to points.

    Args:
      law: which.
      columns: [points] each; at least the law's inputs.
      target: [points] what it shall predict.
      fitting: how.
      groups: [points] int from 0: points resampled together; each of its own by default.
      weights: [points] of the sum that is made small; ones by default.
      starts: [starts, parameters] where searches begin; the law's own by default.

    Raises:
      LawError: where points are too few, a column is missing, or no start leads anywhere.
    """
    target = np.asarray(target, float)
    check_enough(law.name, len(target), len(law.parameters))
    kept = {name: find_column(columns, name) for name in law.inputs}
    kept |= {n: np.asarray(columns[n], float) for n in ("flops",) if n in columns}
    objective = fitting.objective
    if objective.space == "log" and not np.all(target > 0):
        raise LawError(f"{law.name}: the target must be positive for an objective of its logarithm.")
    weights = np.ones(len(target)) if weights is None else np.asarray(weights, float)
    groups = np.arange(len(target)) if groups is None else groups
    starts = law.starts(kept, target) if starts is None else np.atleast_2d(starts)
    evaluate = in_space(law.bind(kept), law.is_log, objective.space)
    problem = Problem(evaluate, objective, objective.target(target), weights)
    vector, value, search, metric = _search(law.name, problem, starts)
    rng = np.random.default_rng(fitting.seed)
    resampled = bootstrap_weights(groups, fitting.bootstraps, len(law.parameters), rng)
    draws, unstable = _resample(problem, resampled, vector, metric, fitting, rng)
    search = dataclasses.replace(search, unstable=unstable)
    return Fit(
        law, objective, kept, target, weights, vector, value, search, draws, fitting.seed
    )


def inverse_curvature(evaluate: Evaluate, vectors: np.ndarray) -> np.ndarray:
    """[parameters, parameters]: inverse of the mean of J'J, and a little of the identity."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for vector in vectors:
        slopes = jacobian(evaluate, vector)
        if np.all(np.isfinite(slopes)):
            total += slopes.T @ slopes / len(vectors)
    size = np.trace(total)
    if not (np.isfinite(size) and size > 0):
        return np.eye(len(total))
    # Scaled to a unit diagonal first, as parameters have different units.
    scale = np.sqrt(np.maximum(np.diag(total), 1e-12 * size))
    scaled = total / np.outer(scale, scale) + 1e-9 * np.eye(len(total))
    return np.linalg.inv(scaled) / np.outer(scale, scale)


def _search(
    name: str, problem: Problem, starts: np.ndarray
) -> tuple[np.ndarray, float, Search, np.ndarray]:
    some = np.linspace(0, len(starts) - 1, min(METRIC_STARTS, len(starts))).astype(int)
    ends, values = minimise(problem, starts, inverse_curvature(problem.evaluate, starts[some]))
    if not np.any(np.isfinite(values)):
        raise LawError(f"{name}: none of {len(starts)} starts gives a finite objective.")
    best = int(np.argmin(values))
    # Once more, with the curvature of the optimum itself.
    metric = inverse_curvature(problem.evaluate, ends[[best]])
    vector, value = minimise(problem, ends[[best]], metric)
    vector, value = vector[0], float(value[0])
    reached = values <= value * (1 + REACHED) + 1e-300
    spread = float(np.max(np.ptp(ends[reached], axis=0), initial=0.0)) if reached.any() else 0.0
    worst = float(np.max(values[np.isfinite(values)]) / value) if value > 0 else 1.0
    return vector, value, Search(len(starts), int(reached.sum()), spread, worst), metric


def _resample(
    problem: Problem,
    resampled: np.ndarray,
    vector: np.ndarray,
    metric: np.ndarray,
    fitting: Fitting,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """[bootstraps, points] counts -> [bootstraps, parameters] optima, and `Search.unstable`."""
    count = len(resampled)
    again = dataclasses.replace(problem, weights=resampled * problem.weights)
    starts = np.repeat(vector[None], count, axis=0)
    if not count:
        return starts, 0.0
    first, first_values = minimise(again, starts, metric)
    ends, values = first, first_values.copy()
    size = np.std(first, axis=0)
    for _ in range(fitting.restarts):
        moved = first + size * rng.standard_normal(first.shape)
        others, other_values = minimise(again, moved, metric)
        is_better = other_values < values
        ends = np.where(is_better[:, None], others, ends)
        values = np.where(is_better, other_values, values)
    with np.errstate(divide="ignore", invalid="ignore"):
        unstable = float(np.mean(values < first_values * (1 - UNSTABLE)))
    return ends, unstable
