"""Chinchilla's parametric law, L = E + A / N^alpha + B / D^beta, and its compute-optimal models.

The third approach of Hoffmann et al. (2203.15556): Huber's function (delta 1e-3) of the log loss,
minimised from a grid of starts. Besiroglu et al. (2404.10102) show that the published constants are
not at the optimum; `Fit.search` says how many starts reach it here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.scaling.laws.fit import Fit
from jaxgen.scaling.laws.fitting import ROBUST, Fitting, fit_table
from jaxgen.scaling.laws.frontier import Frontier, Optimum
from jaxgen.scaling.laws.law import grid, restrict
from jaxgen.scaling.laws.power_terms import Term, power_terms
from jaxgen.scaling.laws.table import FLOPS_PER_PARAMETER_AND_TOKEN, Table

CHINCHILLA = power_terms(
    "Chinchilla",
    [Term("A", {"parameters": "alpha"}), Term("B", {"tokens": "beta"}), Term("E")],
)
HOFFMANN = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
"""As printed in the paper; with the text's further digits E is 1.6934."""
BESIROGLU = {"A": 482.01, "B": 2085.43, "E": 1.8172, "alpha": 0.3478, "beta": 0.3658}
"""Refitted to the points of the paper's figure (Table 1 of 2404.10102)."""


def fit_chinchilla(
    table: Table,
    fitting: Fitting = ROBUST,
    irreducible: float | None = None,
    starts: np.ndarray | None = None,
) -> Fit:
    """Fits the parametric law (approach 3).

    Args:
      table: of runs.
      fitting: how.
      irreducible: E, where it is known; fitted otherwise.
      starts: such as `hoffmann_starts()`; by default 112 that are scaled to the data.
    """
    law = CHINCHILLA
    if irreducible is not None:
        law = restrict(law, fixed={"log_E": float(np.log(irreducible))})
    return fit_table(law, table, fitting, starts=starts)


def hoffmann_starts() -> np.ndarray:
    """[4500, 5]: the paper's grid of starts, in the order of `CHINCHILLA.parameters`.

    It presumes losses in nats a token and counts of single parameters and tokens.
    """
    coefficients = [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]
    exponents = [0.0, 0.5, 1.0, 1.5, 2.0]
    return grid(coefficients, coefficients, [-1.0, -0.5, 0.0, 0.5, 1.0], exponents, exponents)


def chinchilla_frontier(fit: Fit) -> Frontier:
    """N*(C) and D*(C) of a fit of this law (or one with tied exponents), with 6ND = C.

    N* = G (C/6)^a and D* = (C/6)^b / G with G = (alpha A / (beta B))^(1/(alpha + beta)),
    a = beta / (alpha + beta) and b = alpha / (alpha + beta).
    """
    log_sizes, exponents = _optimum_of(fit.law.natural(fit.vector))
    log_size_draws, exponent_draws = _optimum_of(fit.law.natural(fit.draws))
    flops = fit.columns["flops"]
    return Frontier(
        name=f"{fit.name} approach 3",
        log_size=float(log_sizes),
        exponent=float(exponents),
        log_size_draws=log_size_draws,
        exponent_draws=exponent_draws,
        flops_per_product=FLOPS_PER_PARAMETER_AND_TOKEN,
        largest_flops=float(np.max(flops)),
    )


def chinchilla_optimum(fit: Fit, flops: ArrayLike, level: float = 0.95) -> Optimum:
    """The best model of a compute budget and the loss it reaches, with intervals."""
    frontier = chinchilla_frontier(fit)

    def losses(vectors: np.ndarray, sizes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        named = {name: value[..., None] for name, value in fit.law.natural(vectors).items()}
        of_size = named["A"] * sizes ** -named["alpha"]
        return named["E"] + of_size + named["B"] * tokens ** -named["beta"]

    return frontier.optimum(
        flops,
        level,
        lambda sizes, tokens: losses(fit.vector, sizes, tokens),
        lambda sizes, tokens: losses(fit.draws, sizes, tokens),
    )


def _optimum_of(named: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    alpha, beta = named["alpha"], named["beta"]
    log_ratio = np.log(alpha * named["A"]) - np.log(beta * named["B"])
    log_g, share = log_ratio / (alpha + beta), beta / (alpha + beta)
    return log_g - share * np.log(FLOPS_PER_PARAMETER_AND_TOKEN), share
