"""A token's cost depends on the model's size, which ties parameters and tokens to a budget."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.laws.table import FLOPS_PER_PARAMETER_AND_TOKEN, Table


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


def token_flops_of(table: Table) -> TokenFlops:
    """Fits the cost to runs by least squares of logarithms; proportional to N for a single size."""
    per_token = table.flops / table.tokens
    if len(np.unique(table.parameters)) < 2:
        return TokenFlops(float(np.median(per_token / table.parameters)))
    logs = np.log(table.parameters)
    exponent, constant = np.polyfit(logs - logs.mean(), np.log(per_token), 1)
    return TokenFlops(float(np.exp(constant - exponent * logs.mean())), float(exponent))
