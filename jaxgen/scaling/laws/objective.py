"""What a fit makes small: a sum over points of Huber's function of the error.

Huber's function is half the square up to delta and linear beyond (Hoffmann et al., 2203.15556, use
delta 1e-3 on the logarithm of the loss, so that outliers count little). The sum is over points, not
the mean: with a mean of 1e-6 optimisers stop for having reached their tolerance, which is how the
published constants of Chinchilla's third approach came to be off (Besiroglu et al., 2404.10102).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jaxgen.scaling.laws.errors import LawError
from jaxgen.scaling.laws.law import Evaluate

MAX_NUMBERS = 2**21
"""Of an array of an evaluation; more replicates are taken in turns."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """Which error, and how large it may be before it counts less.

    Attributes:
      delta: of Huber's function; infinite for least squares.
      space: `log`, where the error is of logarithms, or `linear`.
    """

    delta: float = 1e-3
    space: str = "log"

    def __post_init__(self):
        if not self.delta > 0:
            raise LawError(f"delta={self.delta} must be positive; math.inf is least squares.")
        if self.space not in ("log", "linear"):
            raise LawError(f"space={self.space!r} must be 'log' or 'linear'.")

    def target(self, target: np.ndarray) -> np.ndarray:
        """Of what is predicted, in the space of the error."""
        return np.log(target) if self.space == "log" else target

    def values(self, errors: np.ndarray) -> np.ndarray:
        """Huber's function of each error."""
        if math.isinf(self.delta):
            return 0.5 * errors**2
        clipped = np.clip(errors, -self.delta, self.delta)
        return clipped * (errors - 0.5 * clipped)

    def slopes(self, errors: np.ndarray) -> np.ndarray:
        """Its derivative."""
        return errors if math.isinf(self.delta) else np.clip(errors, -self.delta, self.delta)


LEAST_SQUARES = Objective(math.inf, "linear")
LOG_LEAST_SQUARES = Objective(math.inf, "log")


def in_space(evaluate: Evaluate, is_log: bool, space: str) -> Evaluate:
    """A formula's values as the error compares them."""
    if is_log == (space == "log"):
        return evaluate

    def converted(vectors: np.ndarray):
        values, pullback = evaluate(vectors)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if is_log:
                values = np.exp(values)
                return values, lambda weights: pullback(weights * values)
            return np.log(values), lambda weights: pullback(weights / values)

    return converted


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Many fits of one formula: to one target with different weights, or to different targets.

    Attributes:
      evaluate: the formula in the space of the error.
      objective: of the error.
      targets: [points] or [replicates, points], in the space of the error.
      weights: [points] or [replicates, points].
    """

    evaluate: Evaluate
    objective: Objective
    targets: np.ndarray
    weights: np.ndarray

    def __call__(self, vectors: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[some, parameters] of replicates which [some] -> objective [some] and its gradient.

        Where a value is not finite the objective is infinite and the gradient zero.
        """
        some = max(1, MAX_NUMBERS // max(1, self.targets.shape[-1]))
        parts = [
            self._some(vectors[start : start + some], which[start : start + some])
            for start in range(0, len(vectors), some)
        ]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([part[0] for part in parts]), np.concatenate([p[1] for p in parts])

    def _some(self, vectors: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(over="ignore", invalid="ignore"):
            values, pullback = self.evaluate(vectors)
            targets = self.targets[which] if self.targets.ndim == 2 else self.targets
            weights = self.weights[which] if self.weights.ndim == 2 else self.weights
            errors = values - targets
            total = np.sum(weights * self.objective.values(errors), axis=1)
            gradient = pullback(weights * self.objective.slopes(errors))
        is_bad = ~(np.isfinite(total) & np.all(np.isfinite(gradient), axis=1))
        total[is_bad], gradient[is_bad] = np.inf, 0.0
        return total, gradient
