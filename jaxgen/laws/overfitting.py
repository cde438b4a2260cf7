"""Repeated data can do harm: the loss rises again with epochs, the sooner the larger the model.

Chinchilla's law gets a term that grows with the number of repeats R = D / U - 1 of U unique tokens
and with the parameters for each of them,

    L = E + A / N^alpha + B / D^beta + P R^kappa (N / U)^lambda.

That the excess loss is an additive power of both was found by Lovelace et al. (2605.01640); which
of its parameters are free is our choice. Without repeats it is Chinchilla's law. Unlike the law of
Muennighoff et al. (`data_constrained`), it can rise.
"""

from __future__ import annotations

import numpy as np

from jaxgen.laws.chinchilla import CHINCHILLA
from jaxgen.laws.fit import Fit
from jaxgen.laws.fitting import ROBUST, Fitting, fit_table
from jaxgen.laws.law import Law, by_complex_step, grid
from jaxgen.laws.table import Columns, Table

POWERS = ((0.5, 1.5), (0.4, 1.0))
"""Starts of kappa and lambda."""
SHARE = 0.1
"""Share of the excess loss in that of the run with the largest, at the starts."""
NO_REPEAT = 1e-6
"""Repeats that are none, but for rounding."""


def _law() -> Law:
    base = CHINCHILLA.parameters
    parameters = (*base, "log_P", "log_kappa", "log_lambda")
    inputs = ("parameters", "tokens", "unique_tokens")

    def logarithm(named, columns: Columns) -> np.ndarray:
        log_repeats, log_ratio, has_repeats = _excess(columns)
        powers = np.exp(named["log_kappa"]), np.exp(named["log_lambda"])
        excess = np.exp(named["log_P"] + powers[0] * log_repeats + powers[1] * log_ratio)
        return np.log(
            np.exp(named["log_A"] - named["alpha"] * np.log(columns["parameters"]))
            + np.exp(named["log_B"] - named["beta"] * np.log(columns["tokens"]))
            + np.exp(named["log_E"])
            + np.where(has_repeats, excess, 0.0)
        )

    def starts(columns: Columns, target: np.ndarray) -> np.ndarray:
        bases = CHINCHILLA.starts(columns, target)[::8]
        log_repeats, log_ratio, has_repeats = _excess(columns)
        found = []
        for kappa, ratio in grid(*POWERS):
            largest = np.max(
                kappa * log_repeats + ratio * log_ratio, where=has_repeats, initial=-99
            )
            log_p = np.log(SHARE * np.median(target)) - largest
            rest = np.tile([log_p, np.log(kappa), np.log(ratio)], (len(bases), 1))
            found.append(np.column_stack([bases, rest]))
        return np.concatenate(found)

    bind = by_complex_step(logarithm, parameters, inputs)
    formula = "L = E + A / N^alpha + B / D^beta + P R^kappa (N / U)^lambda"
    return Law("over-fitting", parameters, inputs, bind, starts, formula=formula)


def _excess(columns: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ln R, where there are repeats, ln(N / U), and whether there are, [points] each."""
    unique = np.minimum(columns["unique_tokens"], columns["tokens"])
    repeats = columns["tokens"] / unique - 1
    has_repeats = repeats > NO_REPEAT
    log_ratio = np.log(columns["parameters"] / unique)
    return np.log(np.where(has_repeats, repeats, 1.0)), log_ratio, has_repeats


OVERFITTING = _law()


def fit_overfitting(
    table: Table, fitting: Fitting = ROBUST, starts: np.ndarray | None = None
) -> Fit:
    """Fits the law of repeated data that can rise.

    Args:
      table: with the column `unique_tokens`; `tokens` count repetitions.
      fitting: how to fit.
      starts: [starts, 8] working parameters; the law's own by default.
    """
    return fit_table(OVERFITTING, table, fitting, starts=starts)
