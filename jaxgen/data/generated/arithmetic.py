"""Sums: of long numbers, written in several ways, and modulo a number."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

import numpy as np

from jaxgen.data.generated.base import GeneratedSource
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt

AdditionFormat = Literal["plain", "reversed", "scratchpad"]
Operation = Literal["add", "subtract", "multiply"]
SIGNS = {"add": "+", "subtract": "-", "multiply": "*"}


@dataclasses.dataclass(frozen=True)
class Addition(GeneratedSource):
    """Multi-digit addition, most significant digit first: "042+915=" -> "0957".

    Numbers are padded with zeros, so all instances are equally long. The key is the pair, the same
    in all formats.

    "reversed" answers from the least significant digit on: "042+915=" -> "7590". "scratchpad"
    writes digit, digit, carry and two-digit sum from the right, then the answer:
    "042+915=" -> "2+5+0=07,4+1+0=05,0+9+0=09;0957".

    Attributes:
      digits: of each summand.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the pairs that is held out.
      format: of the answer.
    """

    digits: Annotated[int, Domain(1, 19)] = 3  # summands are 64 bits
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05
    format: AdditionFormat = "plain"

    @property
    def chance(self) -> float:
        """Returns the accuracy of the commonest sum, 10^digits - 1, or of any fixed scratchpad."""
        return 10.0 ** -(self.digits * (2 if self.format == "scratchpad" else 1))

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: two summands."""
        return 2

    def _summands(self, draws: np.ndarray) -> np.ndarray:
        return draws % np.uint64(10**self.digits)

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """Returns the pair as one number."""
        first, second = self._summands(draws).T
        return first * np.uint64(10**self.digits) + second

    def record(self, draws: np.ndarray) -> Record:
        """Returns a problem and its sum."""
        first, second = (int(number) for number in self._summands(draws))
        width = self.digits
        return {
            "prompt": f"{first:0{width}}+{second:0{width}}=",
            "answer": self._answer(first, second),
            "key": f"{first}+{second}",
        }

    def _answer(self, first: int, second: int) -> str:
        total = f"{first + second:0{self.digits + 1}}"
        if self.format == "plain":
            return total
        if self.format == "reversed":
            return total[::-1]
        steps, carry = [], 0
        for place in range(self.digits):
            a, b = first // 10**place % 10, second // 10**place % 10
            steps.append(f"{a}+{b}+{carry}={a + b + carry:02}")
            carry = (a + b + carry) // 10
        return f"{','.join(steps)};{total}"


@dataclasses.dataclass(frozen=True)
class ModularArithmetic(GeneratedSource):
    """Arithmetic modulo a number that is not stated: "12+95=" -> "10" (modulo 97).

    Numbers are padded with zeros, so all instances are equally long. The key is the pair; there
    are modulus^2 of them.

    Attributes:
      modulus: at least 2.
      operation: what is done with the pair.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the pairs that is held out.
    """

    modulus: Annotated[int, Domain(2, 2**31)] = 97
    operation: Operation = "add"
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    @property
    def chance(self) -> float:
        """Returns the accuracy of any fixed sum or difference, or of 0, the commonest product.

        a*b = 0 has gcd(a, modulus) solutions b for each a, and no other result has more.
        """
        if self.operation != "multiply":
            return 1 / self.modulus
        return sum(math.gcd(a, self.modulus) for a in range(self.modulus)) / self.modulus**2

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: two numbers."""
        return 2

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """Returns the pair as one number."""
        first, second = (draws % np.uint64(self.modulus)).T
        return first * np.uint64(self.modulus) + second

    def record(self, draws: np.ndarray) -> Record:
        """Returns a problem and its result."""
        first, second = (int(number) for number in draws % np.uint64(self.modulus))
        signed = {"add": second, "subtract": -second}
        result = (
            first * second if self.operation == "multiply" else first + signed[self.operation]
        ) % self.modulus
        width, sign = len(str(self.modulus - 1)), SIGNS[self.operation]
        return {
            "prompt": f"{first:0{width}}{sign}{second:0{width}}=",
            "answer": f"{result:0{width}}",
            "key": f"{first}{sign}{second}",
        }
