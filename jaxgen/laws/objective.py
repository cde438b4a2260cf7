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

from jaxgen.laws.errors import LawError
from jaxgen.laws.law import Evaluate, Slopes

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

    def bends(self, errors: np.ndarray) -> np.ndarray:
        """The derivative over the error: one up to delta, and delta over the error beyond."""
        if math.isinf(self.delta):
            return np.ones_like(errors)
        return self.delta / np.maximum(np.abs(errors), self.delta)


LEAST_SQUARES = Objective(math.inf, "linear")
LOG_LEAST_SQUARES = Objective(math.inf, "log")


def in_space(evaluate: Evaluate, is_log: bool, space: str) -> Evaluate:
    """A formula's values as the error compares them."""
    if is_log == (space == "log"):
        return evaluate

    def converted(vectors: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, Slopes]:
        values, slopes = evaluate(vectors, directions)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            factor = np.exp(values) if is_log else 1 / values
            values = factor if is_log else np.log(values)
        return values, Slopes(
            lambda weights: slopes.pull(weights * factor),
            lambda: slopes.jacobian() * factor[:, :, None],
        )

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

    def value_and_gradient(
        self, vectors: np.ndarray, which: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """[some, parameters] of replicates which [some] -> objective [some] and its gradient.

        Where a value is not finite the objective is infinite and the gradient zero.
        """
        total, gradient = self._in_turns(self._gradient, vectors, which, 1)
        is_bad = ~(np.isfinite(total) & np.all(np.isfinite(gradient), axis=1))
        total[is_bad], gradient[is_bad] = np.inf, 0.0
        return total, gradient

    def normal_equations(
        self, vectors: np.ndarray, which: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same and J' W J, [some, parameters, parameters].

        W are the weights times `Objective.bends`: the parabolas that touch Huber's function from
        above, by which a step is one of iteratively reweighted least squares.
        """
        count = vectors.shape[1]
        total, gradient, matrix = self._in_turns(self._normal, vectors, which, count)
        is_bad = ~(np.isfinite(total) & np.all(np.isfinite(matrix), axis=(1, 2)))
        is_bad |= ~np.all(np.isfinite(gradient), axis=1)
        total[is_bad], gradient[is_bad], matrix[is_bad] = np.inf, 0.0, np.eye(count)
        return total, gradient, matrix

    def values(self, vectors: np.ndarray, which: np.ndarray) -> np.ndarray:
        """[some]: the objective alone."""
        total = self._in_turns(lambda v, w: (self._errors(v, w)[0],), vectors, which, 1)[0]
        return np.where(np.isfinite(total), total, np.inf)

    def _in_turns(self, function, vectors: np.ndarray, which: np.ndarray, size: int):
        some = max(1, MAX_NUMBERS // max(1, self.targets.shape[-1] * size))
        with np.errstate(over="ignore", invalid="ignore"):
            parts = [
                function(vectors[start : start + some], which[start : start + some])
                for start in range(0, len(vectors), some)
            ]
        return (
            parts[0] if len(parts) == 1 else [np.concatenate(p) for p in zip(*parts, strict=True)]
        )

    def _errors(self, vectors: np.ndarray, which: np.ndarray):
        values, slopes = self.evaluate(vectors, np.eye(vectors.shape[1]))
        targets = self.targets[which] if self.targets.ndim == 2 else self.targets
        weights = self.weights[which] if self.weights.ndim == 2 else self.weights
        errors = values - targets
        total = np.sum(weights * self.objective.values(errors), axis=1)
        return total, weights, errors, slopes

    def _gradient(self, vectors: np.ndarray, which: np.ndarray):
        total, weights, errors, slopes = self._errors(vectors, which)
        return total, slopes.pull(weights * self.objective.slopes(errors))

    def _normal(self, vectors: np.ndarray, which: np.ndarray):
        total, weights, errors, slopes = self._errors(vectors, which)
        slopes = slopes.jacobian()
        weighted = slopes * (weights * self.objective.bends(errors))[:, :, None]
        gradient = np.einsum("rnp,rn->rp", weighted, errors)
        return total, gradient, weighted.transpose(0, 2, 1) @ slopes
