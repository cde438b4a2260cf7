"""The laws of Kaplan et al. (2001.08361) are powers without an irreducible loss.

L(N) = (N_c / N)^alpha, and likewise of tokens and of compute; together
L(N, D) = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D. N is without embeddings there.
"""

from __future__ import annotations

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit
from jaxgen.laws.fitting import ROBUST, Fitting, fit_table
from jaxgen.laws.law import Law, by_complex_step, grid
from jaxgen.laws.power_terms import SYMBOLS
from jaxgen.laws.table import Columns, Table

EXPONENTS = (0.03, 0.07, 0.15, 0.4)
"""Starts of each exponent."""


def _power(column: str) -> Law:
    parameters = ("log_scale", "alpha")

    def logarithm(named, columns: Columns) -> np.ndarray:
        return named["alpha"] * (named["log_scale"] - np.log(columns[column]))

    def starts(columns: Columns, target: np.ndarray) -> np.ndarray:
        log_column, log_target = np.median(np.log(columns[column])), np.median(np.log(target))
        return np.array([[log_column + log_target / power, power] for power in EXPONENTS])

    bind = by_complex_step(logarithm, parameters, (column,))
    symbol = SYMBOLS[column]
    formula = f"L = (scale / {symbol})^alpha"
    return Law(
        f"Kaplan, of {column}", parameters, (column,), bind, starts, formula=formula,
        falling=(column,),
    )  # fmt: skip


def _joint() -> Law:
    parameters = ("log_parameter_scale", "log_token_scale", "alpha_parameters", "alpha_tokens")
    inputs = ("parameters", "tokens")

    def logarithm(named, columns: Columns) -> np.ndarray:
        ratio = named["alpha_parameters"] / named["alpha_tokens"]
        of_size = ratio * (named["log_parameter_scale"] - np.log(columns["parameters"]))
        of_tokens = named["log_token_scale"] - np.log(columns["tokens"])
        largest = np.maximum(of_size.real, of_tokens.real)
        both = np.exp(of_size - largest) + np.exp(of_tokens - largest)
        return named["alpha_tokens"] * (largest + np.log(both))

    def starts(columns: Columns, target: np.ndarray) -> np.ndarray:
        size, tokens = (np.median(np.log(columns[name])) for name in inputs)
        loss = np.median(np.log(target))
        # Each term makes up half of the sum in brackets at a typical point.
        powers = grid(EXPONENTS, EXPONENTS)
        inner = loss / powers[:, 1] - np.log(2)
        of_size = size + inner * powers[:, 1] / powers[:, 0]
        return np.column_stack([of_size, tokens + inner, powers])

    bind = by_complex_step(logarithm, parameters, inputs)
    formula = (
        "L = ((parameter_scale / N)^(alpha_parameters / alpha_tokens) + token_scale / D)"
        "^alpha_tokens"
    )
    return Law(
        "Kaplan, of parameters and tokens", parameters, inputs, bind, starts, formula=formula,
        falling=inputs,
    )  # fmt: skip


KAPLAN = {name: _power(name) for name in ("parameters", "tokens", "flops")}
"""Laws by column, with parameters `scale` (N_c, D_c or C_c, in the column's unit) and `alpha`."""
KAPLAN_JOINT = _joint()


def fit_kaplan(
    table: Table,
    fitting: Fitting = ROBUST,
    starts: np.ndarray | None = None,
    *,
    of: str = "parameters",
) -> Fit:
    """Fits L(N), L(D), L(C) or L(N, D).

    Args:
      table: runs that are limited by this column alone.
      fitting: how to fit.
      starts: [starts, parameters] working parameters; the law's own by default.
      of: `parameters`, `tokens`, `flops`, or `both` for parameters and tokens.
    """
    if of == "both":
        return fit_table(KAPLAN_JOINT, table, fitting, starts=starts)
    if of not in KAPLAN:
        raise LawError(f"of={of!r} must be one of {', '.join(KAPLAN)}, both.")
    return fit_table(KAPLAN[of], table, fitting, starts=starts)
