"""Fitting any law: many starts, the best end, and bootstraps from there."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit, Search
from jaxgen.laws.law import Law
from jaxgen.laws.least_squares import minimise_squares
from jaxgen.laws.minimising import minimise
from jaxgen.laws.objective import Objective, Problem, in_space
from jaxgen.laws.resampling import bootstrap_weights
from jaxgen.laws.table import Columns, Table, check_enough, find_column

REACHED = 1e-6
"""Relative difference of objectives that are one optimum."""
UNSTABLE = 1e-3
"""The same between two ends of a bootstrap; see `Search`."""
EXACT = 1e-20
"""Of a point: an objective so small is rounding, where a law goes through all points."""


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
        raise LawError(
            f"{law.name}: the target must be positive for an objective of its logarithm."
        )
    weights = np.ones(len(target)) if weights is None else np.asarray(weights, float)
    groups = np.arange(len(target)) if groups is None else groups
    starts = law.starts(kept, target) if starts is None else np.atleast_2d(starts)
    evaluate = in_space(law.bind(kept), law.is_log, objective.space)
    problem = Problem(evaluate, objective, objective.target(target), weights)
    vector, value, search = _search(law.name, problem, starts)
    rng = np.random.default_rng(fitting.seed)
    resampled = bootstrap_weights(groups, fitting.bootstraps, len(law.parameters), rng)
    draws, unstable = _resample(problem, resampled, vector, fitting, rng)
    search = dataclasses.replace(search, unstable=unstable)
    return Fit(law, objective, kept, target, weights, vector, value, search, draws, fitting.seed)


def solve(problem: Problem, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimises from each start: by Levenberg and Marquardt for squares, else by BFGS.

    Args:
      problem: whose replicates the rows of starts are.
      starts: [rows, parameters].

    Returns:
      The ends [rows, parameters] and their objectives [rows].
    """
    return (minimise_squares if math.isinf(problem.objective.delta) else minimise)(problem, starts)


def _search(name: str, problem: Problem, starts: np.ndarray) -> tuple[np.ndarray, float, Search]:
    ends, values = solve(problem, starts)
    if not np.any(np.isfinite(values)):
        raise LawError(f"{name}: none of {len(starts)} starts gives a finite objective.")
    # Once more from the best, with the curvature there.
    vector, value = solve(problem, ends[[int(np.argmin(values))]])
    vector, value = vector[0], float(value[0])
    reached = values <= value * (1 + REACHED) + EXACT * len(problem.targets)
    spread = float(np.max(np.ptp(ends[reached], axis=0), initial=0.0)) if reached.any() else 0.0
    worst = float(np.max(values[np.isfinite(values)]) / value) if value > 0 else 1.0
    return vector, value, Search(len(starts), int(reached.sum()), spread, worst)


def _resample(
    problem: Problem,
    resampled: np.ndarray,
    vector: np.ndarray,
    fitting: Fitting,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """[bootstraps, points] counts -> [bootstraps, parameters] optima, and `Search.unstable`."""
    count = len(resampled)
    again = dataclasses.replace(problem, weights=resampled * problem.weights)
    starts = np.repeat(vector[None], count, axis=0)
    if not count:
        return starts, 0.0
    first, first_values = solve(again, starts)
    ends, values = first, first_values.copy()
    # The spread between quartiles: some resamples may have run off to where a term vanishes.
    size = np.subtract(*np.quantile(first, [0.75, 0.25], axis=0)) / 1.35
    for _ in range(fitting.restarts):
        others, other_values = solve(again, vector + size * rng.standard_normal(first.shape))
        is_better = other_values < values
        ends = np.where(is_better[:, None], others, ends)
        values = np.where(is_better, other_values, values)
    return ends, float(np.mean(values < first_values * (1 - UNSTABLE) - EXACT))
