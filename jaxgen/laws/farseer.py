"""Farseer (2506.10972): the exponent of tokens depends on the size of the model.

L = exp(a3 N^gamma + b3) + exp(a2 N^beta + b2) D^(-exp(a1 N^alpha + b1)). N is counted here in units
of a reference size, so that powers of it are near one and the search is well conditioned; a1 to a3
are those of the paper times the unit to their powers.
"""

from __future__ import annotations

import numpy as np

from jaxgen.laws.chinchilla import CHINCHILLA
from jaxgen.laws.fit import Fit
from jaxgen.laws.fitting import ROBUST, Fitting, fit_law, fit_table
from jaxgen.laws.law import Law, by_complex_step, grid
from jaxgen.laws.table import Columns, Table

POWERS = (-0.2, 0.1, 0.3)
"""Where the search begins for alpha, beta and gamma."""


def farseer_law(unit: float) -> Law:
    """The law with sizes in units of so many parameters."""
    parameters = ("a1", "b1", "alpha", "a2", "b2", "beta", "a3", "b3", "gamma")
    inputs = ("parameters", "tokens")

    def logarithm(named, columns: Columns) -> np.ndarray:
        log_size, log_tokens = np.log(columns["parameters"] / unit), np.log(columns["tokens"])
        exponent, of_tokens, of_size = (
            named[f"a{i}"] * np.exp(named[power] * log_size) + named[f"b{i}"]
            for i, power in ((1, "alpha"), (2, "beta"), (3, "gamma"))
        )
        of_tokens = of_tokens - np.exp(exponent) * log_tokens
        largest = np.maximum(of_size.real, of_tokens.real)
        return largest + np.log(np.exp(of_size - largest) + np.exp(of_tokens - largest))

    def starts(columns: Columns, target: np.ndarray) -> np.ndarray:
        # Chinchilla's law is the case of an exponent and a coefficient that N does not change.
        fitted = fit_law(CHINCHILLA, columns, target, Fitting(bootstraps=0)).parameters
        size = columns["parameters"]
        floor = np.log(fitted["E"] + fitted["A"] * size ** -fitted["alpha"])
        found = []
        for alpha, beta, gamma in grid(POWERS, POWERS, POWERS):
            a3, b3 = np.polyfit((size / unit) ** gamma, floor, 1)
            b1 = np.log(np.clip(fitted["beta"], 1e-3, None))
            found.append([0.0, b1, alpha, 0.0, np.log(fitted["B"]), beta, a3, b3, gamma])
        return np.array(found)

    bind = by_complex_step(logarithm, parameters, inputs)
    return Law("Farseer", parameters, inputs, bind, starts)


def fit_farseer(table: Table, fitting: Fitting = ROBUST, unit: float | None = None) -> Fit:
    """Fits it; nine parameters need a grid of sizes by tokens.

    Args:
      table: of runs.
      fitting: how.
      unit: of sizes; the geometric mean of those fitted by default.
    """
    unit = float(np.exp(np.mean(np.log(table.parameters)))) if unit is None else unit
    return fit_table(farseer_law(unit), table, fitting)
