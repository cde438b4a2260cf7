"""A token's cost depends on the model's size, which ties parameters and tokens to a budget."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.laws.table import FLOPS_PER_PARAMETER_AND_TOKEN, Columns, Table


@dataclasses.dataclass(frozen=True)
class TokenFlops:
    """A token costs factor N^exponent FLOPs, 6N in a large dense model (Kaplan et al., 2001.08361).

    Counted exactly, attention and logits add to 6N, and relatively more in small models, whose
    exponent is therefore below 1.

    Attributes:
      factor: FLOPs of a token in a model of one parameter.
      exponent: exponent of the number of parameters.
    """

    factor: float = FLOPS_PER_PARAMETER_AND_TOKEN
    exponent: float = 1.0

    def of(self, parameters: np.ndarray) -> np.ndarray:
        """Returns the FLOPs of a token [sizes] for parameters [sizes]."""
        return self.factor * parameters**self.exponent


SIX_N = TokenFlops()


OFF_COST = 0.1
"""Relative error of a token's cost from which it is warned of."""
EXACT = 1e-9
"""Relative error up to which FLOPs are proportional to ND, but for rounding."""


def token_flops_of(table: Table) -> TokenFlops:
    """Fits the cost to runs by least squares of logarithms; proportional to N for a single size."""
    return token_flops_of_columns(table.columns)


def token_flops_of_columns(columns: Columns) -> TokenFlops:
    """Returns the same of columns `parameters`, `tokens` and `flops`; 6N where one is missing."""
    if not {"parameters", "tokens", "flops"} <= set(columns):
        return SIX_N
    sizes, per_token = columns["parameters"], columns["flops"] / columns["tokens"]
    factors = per_token / sizes
    factor = float(np.median(factors))
    if len(np.unique(sizes)) < 2 or np.all(np.abs(factors / factor - 1) < EXACT):
        return SIX_N if abs(factor / SIX_N.factor - 1) < EXACT else TokenFlops(factor)
    logs = np.log(sizes)
    exponent, constant = np.polyfit(logs - logs.mean(), np.log(per_token), 1)
    return TokenFlops(float(np.exp(constant - exponent * logs.mean())), float(exponent))


def worst_cost(table: Table) -> float:
    """Returns the largest relative error of a table's `TokenFlops` for any of its runs."""
    of_cost = token_flops_of(table).of(table.parameters)
    return float(np.max(np.abs(table.flops / table.tokens / of_cost - 1)))
