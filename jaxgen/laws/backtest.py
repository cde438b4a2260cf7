"""A backtest fits a law to the smaller runs of a table and lets it predict the larger ones.

This is rolling-origin evaluation: at each of several amounts of compute, the origins, a law is
fitted to the runs up to there and predicts those beyond. The share of runs within their intervals
should be close to the intervals' level.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit, Prediction
from jaxgen.laws.table import Table, check_varies

LEAST_RUNS = 3
"""Runs beyond the law's parameters that an origin needs."""


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """An origin has a fit to the runs up to some compute, and its predictions of those beyond.

    Attributes:
      largest_flops: the largest compute among the runs fitted.
      fit: the fit to those runs.
      held_out: [runs] rows of the table that were predicted.
      prediction: their predictions, as new runs.
      actual: [runs] their values.
    """

    largest_flops: float
    fit: Fit
    held_out: np.ndarray
    prediction: Prediction
    actual: np.ndarray

    @property
    def relative_errors(self) -> np.ndarray:
        """Returns the ratio of predicted to actual less one, [runs]."""
        return self.prediction.values / self.actual - 1

    @property
    def is_covered(self) -> np.ndarray:
        """Returns whether the actual value is within the interval, [runs] bool."""
        return (self.prediction.lower <= self.actual) & (self.actual <= self.prediction.upper)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Backtest:
    """A backtest has the origins of a table, in order.

    Attributes:
      origins: in rising order of compute.
      level: the level of the intervals.
    """

    origins: tuple[Origin, ...]
    level: float

    def __repr__(self) -> str:
        lines = [
            f"backtest at {len(self.origins)} origins: {100 * self.coverage:.0f} % of held-out "
            f"runs in their {100 * self.level:.3g} % intervals, mean error "
            f"{100 * self.mean_error:.2g} %"
        ]
        for origin in self.origins:
            lines.append(
                f"{origin.fit.points} runs up to {origin.largest_flops:.3g} FLOPs: "
                f"{np.sum(origin.is_covered)} of {len(origin.held_out)} larger ones inside"
            )
        return "\n".join(lines)

    @property
    def coverage(self) -> float:
        """Returns the share of all held-out runs within their intervals."""
        return float(np.mean(np.concatenate([origin.is_covered for origin in self.origins])))

    @property
    def mean_error(self) -> float:
        """Returns the mean absolute relative error over all held-out runs."""
        return float(
            np.mean(np.abs(np.concatenate([origin.relative_errors for origin in self.origins])))
        )


def backtest(
    fit: Callable[[Table], Fit],
    table: Table,
    origins: Sequence[float] | None = None,
    level: float = 0.95,
) -> Backtest:
    """Fits the smaller runs and predicts the larger, at several origins.

    Args:
      fit: a function of a table that returns a fit with bootstraps, such as `fit_chinchilla`.
      table: the runs.
      origins: FLOPs up to which runs are fitted; by default the quartiles of the table's.
      level: the level of the intervals.

    Raises:
      LawError: no origin leaves enough runs on both sides.
    """
    check_varies("the loss", table.loss)
    if origins is None:
        origins = [float(flops) for flops in np.quantile(table.flops, [0.25, 0.5, 0.75])]
    found, why = [], "no run lies beyond any origin"
    for origin in sorted(origins):
        is_known = table.flops <= origin
        rows = np.flatnonzero(~is_known)
        if not len(rows):
            continue
        try:
            fitted = fit(table.select(is_known))
        except LawError as error:
            why = str(error)
            continue
        if fitted.points < len(fitted.vector) + LEAST_RUNS:
            why = f"{fitted.points} runs are too few to estimate their noise"
            continue
        columns = {name: values[rows] for name, values in table.columns.items()}
        prediction = fitted.predict(columns, level=level, of_new_run=True)
        actual = table.loss[rows]
        largest = float(table.flops[is_known].max())
        found.append(Origin(largest, fitted, rows, prediction, actual))
    if not found:
        raise LawError(f"no origin of {len(origins)} can be tested: {why}. Choose origins=.")
    return Backtest(tuple(found), level)
