"""Holding out the largest runs: does a law predict what it has not seen?

Rolling origin: a law is fitted to the runs up to some compute and predicts those beyond, for
one compute after the other, as a study meets them. The share of runs within their intervals is
to be compared with the intervals' level.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit, Prediction
from jaxgen.laws.table import Table

LEAST_RUNS = 3
"""More than the law's parameters, to begin from."""


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """One origin: a fit to smaller runs and what it says of the larger.

    Attributes:
      largest_flops: of the runs fitted.
      fit: to those.
      held_out: [runs] rows of the table.
      prediction: of those, as new runs.
      actual: [runs].
    """

    largest_flops: float
    fit: Fit
    held_out: np.ndarray
    prediction: Prediction
    actual: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """[runs] predicted over actual, less one."""
        return self.prediction.values / self.actual - 1

    @property
    def is_covered(self) -> np.ndarray:
        """[runs] bool: the actual value is within the interval."""
        return (self.prediction.lower <= self.actual) & (self.actual <= self.prediction.upper)


@dataclasses.dataclass(frozen=True, eq=False)
class Holdout:
    """All origins of a table.

    Attributes:
      origins: in rising order of compute.
      level: of the intervals.
    """

    origins: tuple[Origin, ...]
    level: float

    @property
    def coverage(self) -> float:
        """Part of all held-out runs within their intervals."""
        return float(np.mean(np.concatenate([origin.is_covered for origin in self.origins])))

    @property
    def mean_error(self) -> float:
        """Mean absolute relative error over all held-out runs."""
        return float(np.mean(np.abs(np.concatenate([origin.errors for origin in self.origins]))))


def roll(
    fit: Callable[[Table], Fit],
    table: Table,
    origins: Sequence[float] | None = None,
    horizon: float = np.inf,
    level: float = 0.95,
    target: str = "loss",
) -> Holdout:
    """Fits the smaller runs and predicts the larger, at several origins.

    Args:
      fit: a table -> a fit with bootstraps, such as fit_chinchilla.
      table: of runs.
      origins: FLOPs up to which runs are fitted; by default the quartiles of the table's.
      horizon: runs of more than so many times an origin's compute are not predicted.
      level: of the intervals.
      target: the column that is predicted.

    Raises:
      LawError: where no origin leaves enough runs on both sides.
    """
    if origins is None:
        origins = [float(flops) for flops in np.quantile(table.flops, [0.25, 0.5, 0.75])]
    found, why = [], "no run lies beyond any origin"
    for origin in sorted(origins):
        is_known = table.flops <= origin
        rows = np.flatnonzero(~is_known & (table.flops <= horizon * origin))
        if not len(rows):
            continue
        try:
            fitted = fit(table.select(is_known))
        except LawError as error:
            why = str(error)
            continue
        if fitted.points < len(fitted.vector) + LEAST_RUNS:
            why = f"{fitted.points} runs are too few to tell their noise by"
            continue
        columns = {name: values[rows] for name, values in table.columns.items()}
        prediction = fitted.predict(columns, level=level, of_new_run=True)
        actual = table.column(target)[rows]
        largest = float(table.flops[is_known].max())
        found.append(Origin(largest, fitted, rows, prediction, actual))
    if not found:
        raise LawError(f"no origin of {len(origins)} can be tested: {why}. Choose origins=.")
    return Holdout(tuple(found), level)
