"""A line to be found from its points, in the prompt."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np

from jaxgen.data.generated.base import GeneratedSource
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt
from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class InContextRegression(GeneratedSource):
    """y = a x + b modulo a prime, from points: "03>10,07>22,01>04,05>" -> "16" (a=3, b=1).

    The x are all different; two points on a line modulo a prime determine it, so the answer is
    exact. The key is the line (a, b): held-out lines have never been trained on.

    Attributes:
      num_points: shown before the question, at least 2 and fewer than the modulus.
      modulus: a prime.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the lines that is held out.
    """

    num_points: Annotated[int, Domain(2)] = 4
    modulus: Annotated[int, Domain(3, 2**16)] = 31
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    def __post_init__(self):
        super().__post_init__()
        factors = [n for n in range(2, int(self.modulus**0.5) + 1) if self.modulus % n == 0]
        if factors:
            raise ConfigError(
                f"InContextRegression.modulus={self.modulus} is no odd prime, so two points need "
                "not determine a line; use one such as 31 or 97."
            )
        if self.num_points >= self.modulus:
            raise ConfigError(
                f"InContextRegression.num_points={self.num_points} must be at most modulus - 1 = "
                f"{self.modulus - 1}."
            )

    @property
    def chance(self) -> float:
        """Returns the accuracy of any fixed number: b is uniform, and so is y."""
        return 1 / self.modulus

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: a, b and the ranks of all x."""
        return 2 + self.modulus

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """Returns the line as one number."""
        slope, offset = (draws[:, :2] % np.uint64(self.modulus)).T
        return slope * np.uint64(self.modulus) + offset

    def record(self, draws: np.ndarray) -> Record:
        """Returns points of a line and the x of another, and its y."""
        slope, offset = (int(number) for number in draws[:2] % np.uint64(self.modulus))
        width = len(str(self.modulus - 1))
        xs = [int(x) for x in np.argsort(draws[2:])[: self.num_points + 1]]
        *shown, asked = ((f"{x:0{width}}", f"{self._y(slope, offset, x):0{width}}") for x in xs)
        points = "".join(f"{x}>{y}," for x, y in shown)
        return {
            "prompt": f"{points}{asked[0]}>",
            "answer": asked[1],
            "key": f"{slope}x+{offset}",
        }

    def _y(self, slope: int, offset: int, x: int) -> int:
        return (slope * x + offset) % self.modulus
