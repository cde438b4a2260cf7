"""Every compute budget has a best model, with parameters N*(C), tokens D*(C) and a loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import EXTRAPOLATION, Fit
from jaxgen.laws.resampling import interval
from jaxgen.laws.summary import text_of_frontier, values_of_frontier
from jaxgen.laws.table import check_positive, floats
from jaxgen.laws.token_flops import TokenFlops, token_flops_of_columns

COARSE, FINE = 600, 400
"""Points of the two grids over which a law without a closed form is searched."""
BELOW = 12.0
"""How far below the least of the runs they begin at the latest, in logarithms."""
FINE_REACH = 4.0
"""Half the extent of the finer grid in ln N, around the best point of the coarse one."""

Losses = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Parameters and tokens -> losses, of the same shape."""


@dataclasses.dataclass(frozen=True, eq=False)
class Optimum:
    """An optimum has the best models of some compute budgets.

    Attributes:
      flops: [budgets].
      parameters: [budgets] N*.
      tokens: [budgets] D*.
      loss: [budgets] that they reach; NaN where the approach does not say.
      parameters_interval: [budgets, 2]; NaN without bootstraps, as are the next two.
      tokens_interval: [budgets, 2].
      loss_interval: [budgets, 2] of the law's curve, without a run's noise.
      level: the level of the intervals.
      is_extrapolated: [budgets] bool: beyond 10 times the largest compute of the fit.
    """

    flops: np.ndarray
    parameters: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray
    parameters_interval: np.ndarray
    tokens_interval: np.ndarray
    loss_interval: np.ndarray
    level: float
    is_extrapolated: np.ndarray


@dataclasses.dataclass(frozen=True)
class BestLoss:
    """The loss of the best models is L*(C) = floor + coefficient / C^exponent."""

    floor: float
    coefficient: float
    exponent: float

    def at(self, flops: ArrayLike) -> np.ndarray:
        """Returns L* [budgets] of FLOPs [budgets]."""
        return self.floor + self.coefficient * np.asarray(flops, float) ** -self.exponent


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Frontier:
    """A frontier is N* = exp(log_size) C^exponent with D* = C / (a token's FLOPs at N*).

    Attributes:
      name: the approach.
      log_size: logarithm of N* at one FLOP.
      exponent: a of N* ~ C^a.
      log_size_draws: [bootstraps].
      exponent_draws: [bootstraps].
      token_flops: FLOPs of a token by size.
      largest_flops: the largest compute among the runs fitted.
      best_loss: L*(C); None where the approach does not say.
      warnings: why not to trust it, a sentence each.
    """

    name: str
    log_size: float
    exponent: float
    log_size_draws: np.ndarray
    exponent_draws: np.ndarray
    token_flops: TokenFlops
    largest_flops: float
    best_loss: BestLoss | None = None
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return self.summary()

    def summary(self, level: float = 0.95) -> str:
        """Returns N*(C), D*(C), L*(C) and warnings as text."""
        return text_of_frontier(self, level)

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Returns coefficients, exponents and intervals as plain values for JSON."""
        return values_of_frontier(self, level)

    @property
    def coefficient(self) -> float:
        """Returns G of N* = G C^a."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_size))

    @property
    def tokens_coefficient(self) -> float:
        """Returns the factor of D* = factor * C^b."""
        cost = self.token_flops
        with np.errstate(over="ignore"):
            return float(np.exp(-cost.exponent * self.log_size) / cost.factor)

    @property
    def tokens_exponent(self) -> float:
        """Returns b of D* ~ C^b."""
        return 1 - self.token_flops.exponent * self.exponent

    @property
    def standard_error(self) -> float:
        """Returns the standard error of a."""
        return float(np.nanstd(self.exponent_draws, ddof=1)) if len(self.exponent_draws) else np.nan

    def exponent_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Returns the percentile interval of a."""
        low, high = interval(self.exponent_draws, level)
        return float(low), float(high)

    def tokens_exponent_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Returns the percentile interval of b, which follows from that of a."""
        low, high = self.exponent_interval(level)
        power = self.token_flops.exponent
        return 1 - power * high, 1 - power * low

    def optimum(
        self,
        flops: ArrayLike,
        level: float = 0.95,
        losses_of_draws: Losses | None = None,
    ) -> Optimum:
        """Returns N* and D* of budgets, with intervals.

        Args:
          flops: [budgets] or a number.
          level: the level of the intervals.
          losses_of_draws: parameters and tokens [bootstraps, budgets] -> their losses, where they
            are known.
        """
        flops = np.atleast_1d(floats("flops", flops))
        check_positive("flops", flops)
        sizes = np.exp(self.log_size + self.exponent * np.log(flops))
        # An outlying draw may have a size of 0 or infinity, and tokens to match.
        with np.errstate(divide="ignore", over="ignore"):
            size_draws = np.exp(
                self.log_size_draws[:, None] + self.exponent_draws[:, None] * np.log(flops)
            )
            tokens, token_draws = (
                flops / self.token_flops.of(some) for some in (sizes, size_draws)
            )
        loss, loss_draws = np.full(len(flops), np.nan), np.zeros((0, len(flops)))
        if self.best_loss is not None:
            loss = self.best_loss.at(flops)
        if losses_of_draws is not None:
            loss_draws = losses_of_draws(size_draws, token_draws)
        return Optimum(
            flops,
            sizes,
            tokens,
            loss,
            interval(size_draws, level),
            interval(token_draws, level),
            interval(loss_draws, level),
            level,
            flops > EXTRAPOLATION * self.largest_flops,
        )


def search_optimum(
    fit: Fit,
    flops: ArrayLike,
    level: float = 0.95,
    token_flops: TokenFlops | None = None,
    **others: float,
) -> Optimum:
    """Finds the best models under a law of parameters and tokens without a closed form.

    ln N is searched on a grid, then on a finer one around the best point, then by a parabola
    through the best three.

    Args:
      fit: of a law that reads parameters and tokens.
      flops: [budgets] or a number.
      level: the level of the intervals.
      token_flops: the cost of a token; by default that of the runs fitted.
      **others: values of the law's further inputs, such as unique_tokens=1e9.
    """
    if not {"parameters", "tokens"} <= set(fit.law.inputs):
        raise LawError(
            f"{fit.name} reads {', '.join(fit.law.inputs)}; a best model needs a law of both "
            "parameters and tokens."
        )
    flops = np.atleast_1d(floats("flops", flops))
    check_positive("flops", flops)
    unknown = set(fit.law.inputs) - {"parameters", "tokens", *others}
    if unknown or not set(others) <= set(fit.law.inputs):
        raise LawError(
            f"{fit.name} reads {', '.join(fit.law.inputs)}; give the value of each but parameters "
            f"and tokens, not {', '.join(others) or 'none'}."
        )
    for name, value in others.items():
        check_positive(name, np.atleast_1d(floats(name, value)))
    cost = token_flops or token_flops_of_columns(fit.columns)
    vectors = np.concatenate([fit.vector[None], fit.draws])
    sizes, losses = np.empty((2, len(vectors), len(flops)))
    # From one parameter to one token, or far below the runs, should these be in other units.
    least_size, least_tokens = (
        min(0.0, float(np.log(fit.columns[name].min())) - BELOW)
        for name in ("parameters", "tokens")
    )
    for place, budget in enumerate(flops):

        def evaluate(logs: np.ndarray, budget: float = budget) -> np.ndarray:
            sizes = np.exp(logs)
            named = {"parameters": sizes, "tokens": budget / cost.of(sizes)}
            named |= {name: np.full(len(logs), value) for name, value in others.items()}
            return fit.law.values(named, vectors)

        most = (np.log(budget) - np.log(cost.factor) - least_tokens) / cost.exponent
        coarse = np.linspace(least_size, most, COARSE)
        middle = coarse[np.argmin(evaluate(coarse)[0])]
        fine = np.linspace(middle - FINE_REACH, middle + FINE_REACH, FINE)
        sizes[:, place], losses[:, place] = _vertices(fine, evaluate(fine))
    sizes = np.exp(sizes)
    tokens = flops / cost.of(sizes)
    known = fit.columns["flops"].max() if "flops" in fit.columns else np.inf
    return Optimum(
        flops,
        sizes[0],
        tokens[0],
        losses[0],
        interval(sizes[1:], level),
        interval(tokens[1:], level),
        interval(losses[1:], level),
        level,
        flops > EXTRAPOLATION * known,
    )


def _vertices(places: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns places and heights of the rows' minima, by parabolas; NaN at an edge."""
    best = np.argmin(values, axis=1)
    is_edge = (best == 0) | (best == len(places) - 1)
    best = np.clip(best, 1, len(places) - 2)
    rows = np.arange(len(values))
    left, middle, right = (values[rows, best + step] for step in (-1, 0, 1))
    curvature = left - 2 * middle + right
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(curvature > 0, 0.5 * (left - right) / curvature, 0.0)
    vertex = places[best] + shift * (places[1] - places[0])
    lowest = middle - 0.25 * (left - right) * shift
    return np.where(is_edge, np.nan, vertex), np.where(is_edge, np.nan, lowest)
