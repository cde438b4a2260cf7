"""A fit minimises the Huber loss of its errors, summed over points.

The Huber loss is half the squared error up to delta and linear beyond. Hoffmann et al. (2203.15556)
use delta 1e-3 on the logarithm of the training loss, so that outliers count for little. The sum
matters: a mean of 1e-6 lies below the tolerance of common optimisers, which then stop early. That
is how the published constants of Chinchilla's third approach came to be off (Besiroglu et al.,
2404.10102).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.law import Evaluate, Slopes

MAX_NUMBERS = 2**21
"""Numbers in one array of an evaluation; more replicates are evaluated in chunks."""


@dataclasses.dataclass(frozen=True)
class HuberLoss:
    """The Huber loss is half the squared error up to delta, and linear in the error beyond.

    Attributes:
      delta: the error where the loss turns linear; infinite for least squares.
      space: `log` for errors of logarithms, `log1p` for those of log(1 + y), or `linear`.
    """

    delta: float = 1e-3
    space: str = "log"

    def __post_init__(self):
        if not self.delta > 0:
            raise LawError(f"delta={self.delta} must be positive; math.inf is least squares.")
        if self.space not in SPACES:
            raise LawError(f"space={self.space!r} must be one of {', '.join(SPACES)}.")

    def target(self, target: np.ndarray) -> np.ndarray:
        """Returns targets in the space of the error."""
        return SPACES[self.space][0](target)

    def moved(self, values: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """Returns values that are so far, in the space of the error, from others."""
        into, back = SPACES[self.space]
        return back(into(values) + errors)

    def values(self, errors: np.ndarray) -> np.ndarray:
        """Returns the loss of each error."""
        if math.isinf(self.delta):
            return 0.5 * errors**2
        clipped = np.clip(errors, -self.delta, self.delta)
        return clipped * (errors - 0.5 * clipped)

    def slopes(self, errors: np.ndarray) -> np.ndarray:
        """Returns the derivative of the loss at each error."""
        return errors if math.isinf(self.delta) else np.clip(errors, -self.delta, self.delta)

    def weights(self, errors: np.ndarray) -> np.ndarray:
        """Returns weights of reweighted least squares: 1 up to delta, delta / |error| beyond."""
        if math.isinf(self.delta):
            return np.ones_like(errors)
        return self.delta / np.maximum(np.abs(errors), self.delta)


SPACES = {
    "log": (np.log, np.exp),
    "log1p": (np.log1p, np.expm1),
    "linear": (np.asarray, np.asarray),
}
"""By name, to the space of the error and back."""

LEAST_SQUARES = HuberLoss(math.inf, "linear")
LOG_LEAST_SQUARES = HuberLoss(math.inf, "log")
LOG1P_LEAST_SQUARES = HuberLoss(math.inf, "log1p")


def in_space(evaluate: Evaluate, is_log: bool, space: str) -> Evaluate:
    """Returns a formula whose values are in the space of the error."""
    if space == ("log" if is_log else "linear"):
        return evaluate

    def converted(vectors: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, Slopes]:
        values, slopes = evaluate(vectors, directions)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            plain = np.exp(values) if is_log else values
            factor = plain if is_log else np.ones_like(plain)
            if space == "log":
                factor = factor / plain
            elif space == "log1p":
                factor = factor / (1 + plain)
            values = SPACES[space][0](plain)
        return values, Slopes(
            lambda weights: slopes.vjp(weights * factor),
            lambda: slopes.jacobian() * factor[:, :, None],
        )

    return converted


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A problem is many fits of one formula, to one target with different weights or to several.

    Attributes:
      evaluate: the formula in the space of the error.
      fit_loss: the loss of an error.
      targets: [points] or [replicates, points], in the space of the error.
      weights: [points] or [replicates, points].
    """

    evaluate: Evaluate
    fit_loss: HuberLoss
    targets: np.ndarray
    weights: np.ndarray

    def value_and_gradient(
        self, vectors: np.ndarray, which: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the summed loss [some] and its gradient [some, parameters].

        Where a value is not finite the loss is infinite and the gradient zero.

        Args:
          vectors: [some, parameters].
          which: [some] the replicate that each vector belongs to.
        """
        total, gradient = self._in_chunks(self._gradient, vectors, which, 1)
        is_bad = ~(np.isfinite(total) & np.all(np.isfinite(gradient), axis=1))
        total[is_bad], gradient[is_bad] = np.inf, 0.0
        return total, gradient

    def normal_equations(
        self, vectors: np.ndarray, which: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the same, and J' W J [some, parameters, parameters].

        W are the points' weights times `HuberLoss.weights`: the parabolas that touch the Huber loss
        from above, so that a step is one of iteratively reweighted least squares.
        """
        count = vectors.shape[1]
        total, gradient, matrix = self._in_chunks(self._normal, vectors, which, count)
        is_bad = ~(np.isfinite(total) & np.all(np.isfinite(matrix), axis=(1, 2)))
        is_bad |= ~np.all(np.isfinite(gradient), axis=1)
        total[is_bad], gradient[is_bad], matrix[is_bad] = np.inf, 0.0, np.eye(count)
        return total, gradient, matrix

    def values(self, vectors: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Returns the summed loss [some] alone."""
        total = self._in_chunks(lambda v, w: (self._errors(v, w)[0],), vectors, which, 1)[0]
        return np.where(np.isfinite(total), total, np.inf)

    def _in_chunks(self, function, vectors: np.ndarray, which: np.ndarray, size: int):
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
        total = np.sum(weights * self.fit_loss.values(errors), axis=1)
        return total, weights, errors, slopes

    def _gradient(self, vectors: np.ndarray, which: np.ndarray):
        total, weights, errors, slopes = self._errors(vectors, which)
        return total, slopes.vjp(weights * self.fit_loss.slopes(errors))

    def _normal(self, vectors: np.ndarray, which: np.ndarray):
        total, weights, errors, slopes = self._errors(vectors, which)
        slopes = slopes.jacobian()
        weighted = slopes * (weights * self.fit_loss.weights(errors))[:, :, None]
        gradient = np.einsum("rnp,rn->rp", weighted, errors)
        return total, gradient, weighted.transpose(0, 2, 1) @ slopes
