"""What a token costs a model of some size, so that parameters and tokens share a budget."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.laws.table import FLOPS_PER_PARAMETER_AND_TOKEN, Table


@dataclasses.dataclass(frozen=True)
class TokenFlops:
    """FLOPs of a token, factor N^exponent: 6N of a large dense model (Kaplan et al., 2001.08361).

    Counted exactly, attention and logits add to 6N, and the more so the smaller a model is, so that
    the exponent of small ones is below 1.

    Attributes:
      factor: FLOPs of a token of one parameter.
      exponent: of the number of parameters.
    """

    factor: float = FLOPS_PER_PARAMETER_AND_TOKEN
    exponent: float = 1.0

    def of(self, parameters: np.ndarray) -> np.ndarray:
        """[sizes] FLOPs of a token, from parameters [sizes]."""
        return self.factor * parameters**self.exponent


SIX_N = TokenFlops()


def token_flops_of(table: Table) -> TokenFlops:
    """What runs show, by least squares of the logarithms; of a single size, in proportion to N."""
    per_token = table.flops / table.tokens
    if len(np.unique(table.parameters)) < 2:
        return TokenFlops(float(np.median(per_token / table.parameters)))
    logs = np.log(table.parameters)
    exponent, constant = np.polyfit(logs - logs.mean(), np.log(per_token), 1)
    return TokenFlops(float(np.exp(constant - exponent * logs.mean())), float(exponent))
