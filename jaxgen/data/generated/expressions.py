"""Arithmetic expressions with parentheses, and their values."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated

import numpy as np

from jaxgen.data.generated.base import GeneratedSource, stream
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt
from jaxgen.errors import ConfigError

OPERATORS: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
Tree = int | tuple[str, "Tree", "Tree"]
"""A number, or an operator with what is left and right of it."""


@dataclasses.dataclass(frozen=True)
class Expressions(GeneratedSource):
    """The value of an arithmetic expression: "(3+4)*2-5=" -> "9".

    The key is the expression. Records have `expression` and `solution` too: the expression as one
    operation after another replaces it, "7*2-5=14-5=9", which is an answer to learn steps from
    (`prompt_answer.answer = 'solution'`).

    Attributes:
      operators: the signs that are used, each equally likely.
      num_operators: in an expression; how they nest is drawn, each place of the last one equally
        likely.
      largest: number in it; from 0 on.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the expressions that is held out.
    """

    operators: tuple[str, ...] = tuple(OPERATORS)
    num_operators: Annotated[int, Domain(1, 6)] = 3
    largest: Annotated[int, Domain(1, 99)] = 9
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    def __post_init__(self):
        super().__post_init__()
        unknown = [sign for sign in self.operators if sign not in OPERATORS]
        if unknown or not self.operators or len(set(self.operators)) < len(self.operators):
            raise ConfigError(
                f"Expressions.operators={self.operators}: use some of {', '.join(OPERATORS)}, "
                "each once."
            )

    @property
    def chance(self) -> float:
        """Returns the accuracy of the commonest value, found by adding up all expressions."""
        counts = _counts(self.operators, self.num_operators, self.largest)
        return max(counts.values())

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: the seed of places, signs and numbers."""
        return 1

    def record(self, draws: np.ndarray) -> Record:
        """Returns an expression, its value and its solution."""
        numbers = iter(stream(draws[0], 3 * self.num_operators + 1).tolist())
        tree = self._tree(self.num_operators, numbers)
        expression, steps = _text(tree), []
        while not isinstance(tree, int):
            tree = _reduced(tree)
            steps.append(_text(tree))
        return {
            "prompt": f"{expression}=",
            "answer": steps[-1],
            "key": expression,
            "expression": expression,
            "solution": "=".join(steps),
        }

    def _tree(self, operators: int, draws: Iterator[int]) -> Tree:
        if not operators:
            return next(draws) % (self.largest + 1)
        left = next(draws) % operators
        sign = self.operators[next(draws) % len(self.operators)]
        return sign, self._tree(left, draws), self._tree(operators - 1 - left, draws)


def _reduced(tree: Tree) -> Tree:
    """Returns the tree with its leftmost operation of two numbers done."""
    if isinstance(tree, int):
        return tree
    sign, left, right = tree
    if isinstance(left, int) and isinstance(right, int):
        return OPERATORS[sign](left, right)
    if isinstance(left, int):
        return sign, left, _reduced(right)
    return sign, _reduced(left), right


def _text(tree: Tree, is_right: bool = False, above: str = "") -> str:
    """Returns an expression with the parentheses that its value needs.

    Args:
      tree: the expression.
      is_right: whether it stands right of an operator.
      above: that operator.
    """
    if isinstance(tree, int):
        return f"({tree})" if tree < 0 and is_right else str(tree)
    sign, left, right = tree
    text = f"{_text(left, False, sign)}{sign}{_text(right, True, sign)}"
    needed = (above == "*" and (sign != "*" or is_right)) or (above == "-" and is_right)
    return f"({text})" if needed and not (above == "-" and sign == "*") else text


@functools.cache
def _counts(operators: tuple[str, ...], count: int, largest: int) -> Mapping[int, float]:
    """Returns the probability of each value of expressions with so many operators."""
    if not count:
        return dict.fromkeys(range(largest + 1), 1 / (largest + 1))
    found: collections.Counter[int] = collections.Counter()
    for left in range(count):
        for a, p in _counts(operators, left, largest).items():
            for b, q in _counts(operators, count - 1 - left, largest).items():
                for sign in operators:
                    found[OPERATORS[sign](a, b)] += p * q / (count * len(operators))  # pyright: ignore[reportArgumentType]
    return found
