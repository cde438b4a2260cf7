"""Chinchilla's law is L = E + A / N^alpha + B / D^beta, and implies compute-optimal models.

This is the third approach of Hoffmann et al. (2203.15556): the Huber loss (delta 1e-3) of the log
loss is minimised from a grid of starts. Besiroglu et al. (2404.10102) show that the published
constants are not at the optimum; `Fit.search` says how many starts reach it here.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit, compute_of
from jaxgen.laws.fitting import ROBUST, Fitting, fit_table
from jaxgen.laws.frontier import BestLoss, Frontier, Optimum
from jaxgen.laws.power_terms import Term, power_terms
from jaxgen.laws.table import Table
from jaxgen.laws.token_flops import TokenFlops, token_flops_of_columns

HOFFMANN = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
"""The constants as printed; the paper's TeX source has E 1.6934."""
BESIROGLU = {"A": 482.01, "B": 2085.43, "E": 1.8172, "alpha": 0.3478, "beta": 0.3658}
"""The refit to the points of the paper's figure (Table 1 of 2404.10102)."""


def chinchilla_frontier(fit: Fit, token_flops: TokenFlops | None = None) -> Frontier:
    """Returns N*(C), D*(C) and L*(C) of a fit of this law, or of one with tied exponents.

    Where a token costs k N^p, N* = G (C/k)^a and D* = (C/k)^b / G^p with
    G = (alpha A / (p beta B))^(1/(alpha + p beta)), a = beta / (alpha + p beta) and
    b = alpha / (alpha + p beta); the paper's case is k = 6, p = 1. Both terms of L* fall as
    C^-(alpha a).

    Args:
      fit: of the law.
      token_flops: the cost of a token; by default that of the runs fitted, as in approach 2.

    Raises:
      LawError: the loss of the fit does not fall with parameters and tokens.
    """
    token_flops = token_flops or token_flops_of_columns(fit.columns)
    own = fit.parameters
    for name, of in (("alpha", "parameters"), ("beta", "tokens")):
        if own[name] <= 0:
            raise LawError(
                f"{fit.name}: {name}={own[name]:.3g}, so the loss does not fall with {of}, and no "
                "size is the best of a budget."
            )
    log_sizes, exponents = _optimum_of(fit.law.natural(fit.vector), token_flops)
    log_size_draws, exponent_draws = _optimum_of(fit.law.natural(fit.draws), token_flops)
    flops = compute_of(fit.columns)
    assert flops is not None  # The law reads parameters and tokens.
    frontier = Frontier(
        name=f"{fit.name} approach 3",
        log_size=float(log_sizes),
        exponent=float(exponents),
        log_size_draws=log_size_draws,
        exponent_draws=exponent_draws,
        token_flops=token_flops,
        largest_flops=float(flops.max()),
        warnings=fit.warnings,
    )
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        of_size = own["A"] * np.exp(-own["alpha"] * log_sizes)
        of_tokens = own["B"] * np.float64(frontier.tokens_coefficient) ** -own["beta"]
    best = BestLoss(own["E"], float(of_size + of_tokens), float(own["alpha"] * exponents))
    return dataclasses.replace(frontier, best_loss=best)


def chinchilla_optimum(
    fit: Fit, flops: ArrayLike, level: float = 0.95, token_flops: TokenFlops | None = None
) -> Optimum:
    """Returns the best model of each compute budget and the loss it reaches, with intervals."""
    frontier = chinchilla_frontier(fit, token_flops)

    def losses(vectors: np.ndarray, sizes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        named = {name: value[..., None] for name, value in fit.law.natural(vectors).items()}
        of_size = named["A"] * sizes ** -named["alpha"]
        return named["E"] + of_size + named["B"] * tokens ** -named["beta"]

    return frontier.optimum(
        flops, level, losses_of_draws=lambda sizes, tokens: losses(fit.draws, sizes, tokens)
    )


def _optimum_of(
    named: dict[str, np.ndarray], token_flops: TokenFlops
) -> tuple[np.ndarray, np.ndarray]:
    alpha, beta, power = named["alpha"], named["beta"], token_flops.exponent
    # A draw whose loss grows with size or tokens has no best size: NaN, which intervals ignore.
    with np.errstate(invalid="ignore", divide="ignore"):
        log_ratio = np.log(alpha * named["A"]) - np.log(power * beta * named["B"])
    log_g, share = log_ratio / (alpha + power * beta), beta / (alpha + power * beta)
    return log_g - share * np.log(token_flops.factor), share


CHINCHILLA = dataclasses.replace(
    power_terms(
        "Chinchilla",
        [Term("A", {"parameters": "alpha"}), Term("B", {"tokens": "beta"}), Term("E")],
    ),
    formula="L = E + A / N^alpha + B / D^beta",
    frontier=chinchilla_frontier,
)


def fit_chinchilla(
    table: Table,
    fitting: Fitting = ROBUST,
    starts: np.ndarray | None = None,
) -> Fit:
    """Fits the parametric law (approach 3).

    Args:
      table: the runs.
      fitting: how to fit.
      starts: [starts, 5] working parameters; by default 112 that are scaled to the data.
    """
    return fit_table(CHINCHILLA, table, fitting, starts=starts)
