"""Chinchilla's parametric law, L = E + A / N^alpha + B / D^beta, and its compute-optimal models.

The third approach of Hoffmann et al. (2203.15556): Huber's function (delta 1e-3) of the log loss,
minimised from a grid of starts. Besiroglu et al. (2404.10102) show that the published constants are
not at the optimum; `Fit.search` says how many starts reach it here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.fit import Fit
from jaxgen.laws.fitting import ROBUST, Fitting, fit_table
from jaxgen.laws.frontier import Frontier, Optimum
from jaxgen.laws.law import grid, restrict
from jaxgen.laws.power_terms import Term, power_terms
from jaxgen.laws.table import Table
from jaxgen.laws.token_flops import SIX_N, TokenFlops

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


def chinchilla_frontier(fit: Fit, token_flops: TokenFlops = SIX_N) -> Frontier:
    """N*(C) and D*(C) of a fit of this law (or one with tied exponents).

    Where a token costs k N^p, N* = G (C/k)^a and D* = (C/k)^b / G^p with
    G = (alpha A / (p beta B))^(1/(alpha + p beta)), a = beta / (alpha + p beta) and
    b = alpha / (alpha + p beta); the paper's case is k = 6, p = 1.
    """
    log_sizes, exponents = _optimum_of(fit.law.natural(fit.vector), token_flops)
    log_size_draws, exponent_draws = _optimum_of(fit.law.natural(fit.draws), token_flops)
    flops = fit.columns["flops"]
    return Frontier(
        name=f"{fit.name} approach 3",
        log_size=float(log_sizes),
        exponent=float(exponents),
        log_size_draws=log_size_draws,
        exponent_draws=exponent_draws,
        token_flops=token_flops,
        largest_flops=float(np.max(flops)),
    )


def chinchilla_optimum(
    fit: Fit, flops: ArrayLike, level: float = 0.95, token_flops: TokenFlops = SIX_N
) -> Optimum:
    """The best model of a compute budget and the loss it reaches, with intervals."""
    frontier = chinchilla_frontier(fit, token_flops)

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


def _optimum_of(
    named: dict[str, np.ndarray], token_flops: TokenFlops
) -> tuple[np.ndarray, np.ndarray]:
    alpha, beta, power = named["alpha"], named["beta"], token_flops.exponent
    # A draw whose loss grows with size or tokens has no best size: NaN, which intervals pass over.
    with np.errstate(invalid="ignore"):
        log_ratio = np.log(alpha * named["A"]) - np.log(power * beta * named["B"])
    log_g, share = log_ratio / (alpha + power * beta), beta / (alpha + power * beta)
    return log_g - share * np.log(token_flops.factor), share
