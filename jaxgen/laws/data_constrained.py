"""With repeated data, further epochs and excess parameters are worth less and less.

Muennighoff et al. (2305.16264) take Chinchilla's law of effective tokens and parameters. With U
unique tokens seen 1 + R_D times, D' = U + U R_D* (1 - exp(-R_D / R_D*)). N' has the same form,
where U_N parameters are the best for U tokens and N = U_N (1 + R_N).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxgen.laws.chinchilla import CHINCHILLA
from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit
from jaxgen.laws.fitting import ROBUST, Fitting, fit_table
from jaxgen.laws.law import Law, by_complex_step, restrict
from jaxgen.laws.repeats import HARM, LEAST_HARMED, harmed_runs
from jaxgen.laws.table import Columns, Table

BASE = ("A", "B", "E", "alpha", "beta")
MUENNIGHOFF = {
    "A": float(np.exp(6.255414)),
    "B": float(np.exp(7.3049974)),
    "E": float(np.exp(0.6254804)),
    "alpha": 0.3526596,
    "beta": 0.3526596,
}
"""The paper's law for C4 without repetition."""
DECAYS = (1.0, 5.0, 20.0)
"""Starts of R_D* and R_N*."""


def _law() -> Law:
    base = ("log_A", "log_B", "log_E", "alpha", "beta")
    parameters = (*base, "log_token_decay", "log_parameter_decay")
    inputs = ("parameters", "tokens", "unique_tokens")

    def logarithm(named, columns: Columns) -> np.ndarray:
        alpha, beta = named["alpha"], named["beta"]
        size, tokens = columns["parameters"], columns["tokens"]
        unique = np.minimum(columns["unique_tokens"], tokens)
        log_ratio = np.log(alpha) + named["log_A"] - np.log(beta) - named["log_B"]
        log_g = log_ratio / (alpha + beta)
        # The best size of the unique tokens, and never more than there is.
        log_best = (np.log(unique) + log_g) * beta / alpha + log_g
        is_all = log_best.real >= np.log(size)
        best = np.where(is_all, size, np.exp(np.where(is_all, 0.0, log_best)))
        log_size = np.log(effective(size, best, np.exp(named["log_parameter_decay"])))
        log_tokens = np.log(effective(tokens, unique, np.exp(named["log_token_decay"])))
        return np.log(
            np.exp(named["log_A"] - alpha * log_size)
            + np.exp(named["log_B"] - beta * log_tokens)
            + np.exp(named["log_E"])
        )

    def starts(columns: Columns, target: np.ndarray) -> np.ndarray:
        bases = CHINCHILLA.starts(columns, target)[::8]
        decays = np.log([[tokens, size] for tokens in DECAYS for size in DECAYS])
        return np.concatenate(
            [np.column_stack([bases, np.repeat(pair[None], len(bases), 0)]) for pair in decays]
        )

    bind = by_complex_step(logarithm, parameters, inputs)
    formula = "L = E + A / N'^alpha + B / D'^beta"
    falling = ("parameters", "tokens")
    return Law(
        "data-constrained", parameters, inputs, bind, starts, formula=formula, falling=falling
    )


def effective(total: np.ndarray, unique: np.ndarray, decay: np.ndarray) -> np.ndarray:
    """Returns the worth of a total of which a part is unique, U + U R* (1 - exp(-R / R*))."""
    repeats = total / unique - 1
    # Where nothing decays R* diverges, and a fit would exploit the rounding of 1 - exp(...).
    return unique - unique * decay * np.expm1(-repeats / decay)


DATA_CONSTRAINED = _law()


def fit_data_constrained(
    table: Table,
    fitting: Fitting = ROBUST,
    starts: np.ndarray | None = None,
    *,
    base: Mapping[str, float] | None = None,
) -> Fit:
    """Fits R_D* (`token_decay`) and R_N* (`parameter_decay`), with or without the base law.

    Args:
      table: with the column `unique_tokens`; `tokens` count repetitions.
      fitting: how to fit.
      starts: [starts, parameters] of the free working parameters; with a base these are ln R_D*
        and ln R_N*. The fit loss has several optima (docs/decisions.md); the best one found is
        returned.
      base: A, B, E, alpha and beta of runs without repetition, held fixed (the paper's way); None
        to fit them too, which needs runs without repetition in the table.
    """
    law = DATA_CONSTRAINED
    if base is not None:
        if missing := [name for name in BASE if name not in base]:
            raise LawError(f"base={dict(base)} lacks {missing[0]!r}; it needs {', '.join(BASE)}.")
        law = restrict(law, fixed=base_vector(base))
    fit = fit_table(law, table, fitting, starts=starts)
    if (harmed := len(harmed_runs(table, HARM))) < LEAST_HARMED:
        return fit
    rising = (
        f"{harmed} runs are worse than a shorter run on the same data, and this law cannot rise; "
        "compare fit_overfitting (--law=overfitting)."
    )
    return dataclasses.replace(fit, warnings=(rising, *fit.warnings))


def base_vector(base: Mapping[str, float]) -> dict[str, float]:
    """Returns a base law's working parameters by name, as `restrict` takes them."""
    fixed = dict(zip(CHINCHILLA.parameters, CHINCHILLA.vector(base), strict=True))
    return {name: float(value) for name, value in fixed.items()}
