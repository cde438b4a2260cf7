"""Over-training laws give the loss at any ratio of tokens to parameters, and downstream error.

Gadre et al. (2403.08540): L(C, M) = E + (a M^eta + b M^-eta) C^-eta with M = D / N, which is
Chinchilla's law with alpha = beta = 2 eta; and Err(L) = eps - k exp(-gamma L). They fit both by
least squares of the losses and errors themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.chinchilla import CHINCHILLA
from jaxgen.laws.fit import Fit, Prediction
from jaxgen.laws.fitting import Fitting, fit_table
from jaxgen.laws.huber_loss import LEAST_SQUARES
from jaxgen.laws.law import Law, by_complex_step, restrict
from jaxgen.laws.resampling import interval
from jaxgen.laws.table import Columns, Table

OVERTRAINING = dataclasses.replace(
    restrict(CHINCHILLA, tied={"beta": "alpha"}),
    name="over-training",
    formula="L = E + A / N^alpha + B / D^alpha",
)
PROTOCOL = Fitting(LEAST_SQUARES, bootstraps=0)
"""The paper fits by least squares of the loss. Its five runs are too few for bootstraps."""
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Starts of gamma times a typical loss."""


def fit_overtraining(
    table: Table, fitting: Fitting = PROTOCOL, starts: np.ndarray | None = None
) -> Fit:
    """Fits L = E + A / N^alpha + B / D^alpha; `chinchilla_frontier` takes it too."""
    return fit_table(OVERTRAINING, table, fitting, starts=starts)


def _error_law() -> Law:
    parameters = ("eps", "log_k", "gamma")

    def error(named, columns: Columns) -> np.ndarray:
        return named["eps"] - np.exp(named["log_k"] - named["gamma"] * columns["loss"])

    def starts(columns: Columns, target: np.ndarray) -> np.ndarray:
        found = []
        for rate in RATES:
            gamma = rate / np.median(columns["loss"])
            decay = np.exp(-gamma * columns["loss"])
            slope, eps = np.polyfit(decay, target, 1)
            # Errors that rise as the loss falls start from a flat line.
            found.append([eps, np.log(max(-slope, 1e-3)), gamma])
        return np.array(found)

    bind = by_complex_step(error, parameters, ("loss",))
    formula = "Err = eps - k exp(-gamma L)"
    return Law(
        "downstream error", parameters, ("loss",), bind, starts, is_log=False, formula=formula
    )


DOWNSTREAM_ERROR = _error_law()


def fit_downstream_error(
    table: Table,
    fitting: Fitting = PROTOCOL,
    starts: np.ndarray | None = None,
    *,
    error: str = "error",
) -> Fit:
    """Fits Err(L) = eps - k exp(-gamma L) to a table's loss and a column of errors."""
    return fit_table(DOWNSTREAM_ERROR, table, fitting, error, starts=starts)


def predict_error(
    loss: Fit,
    error: Fit,
    columns: Mapping[str, ArrayLike] | None = None,
    *,
    level: float = 0.95,
    **named: ArrayLike,
) -> Prediction:
    """Predicts the error of models from their predicted loss.

    The interval comes from the bootstraps of both fits, in pairs, without the noise of a run.

    Args:
      loss: a fit of the loss.
      error: a fit of the error by the loss.
      columns: inputs of the law of the loss, [points] or numbers.
      level: the level of the intervals.
      **named: columns by name.
    """
    given = loss.inputs_of({**(columns or {}), **named})
    values = error.law.values({"loss": loss.law.values(given, loss.vector)}, error.vector)
    losses = loss.sample(given)
    pairs = min(len(losses), len(error.draws))
    draws = np.empty((pairs, len(values)))
    for draw in range(pairs):
        draws[draw] = error.law.values({"loss": losses[draw]}, error.draws[draw])
    bounds = interval(draws, level)
    return Prediction(values, bounds[:, 0], bounds[:, 1], level, False, loss.extrapolates(given))
