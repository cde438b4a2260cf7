"""Programs of a few steps on lists of numbers: their results, or the programs themselves."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np

from jaxgen.data.generated.base import GeneratedSource, stream
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of a program.

    Attributes:
      words: what it does, in English.
      code: an expression of `values`.
      function: of a list of whole numbers.
    """

    words: str
    code: str
    function: Callable[[list[int]], list[int]]


def _added(number: int) -> Step:
    code = f"[value + {number} for value in values]"
    return Step(f"add {number}", code, lambda values: [value + number for value in values])


def _multiplied(number: int) -> Step:
    code = f"[value * {number} for value in values]"
    return Step(f"multiply by {number}", code, lambda values: [value * number for value in values])


STEPS = (
    Step("reverse", "values[::-1]", lambda values: values[::-1]),
    Step("sort", "sorted(values)", sorted),
    Step("rotate", "values[1:] + values[:1]", lambda values: values[1:] + values[:1]),
    *map(_added, range(1, 10)),
    *map(_multiplied, (2, 3)),
)
"""Rotating moves the first number to the end; adding and multiplying are done to each number."""


@dataclasses.dataclass(frozen=True)
class ListPrograms(GeneratedSource):
    """Steps that are done to a list, one after another, or written as a Python function.

    ask="result": "reverse, add 2: 3 1 4=" -> "6 3 5". ask="program":

        def solve(values):
            # reverse, add 2                           ->
            values = values[::-1]
            values = [value + 2 for value in values]
            return values

    Both have the `steps` in words, a list of `values`, its `result` and `tests` of a program; where
    the program is asked for, `prefix` is the head of the function, so that
    `jaxgen.posttraining.verifiers.ProgramTests` can run what a model writes. The key is the steps
    and the list, or the steps where a program is asked for.

    Attributes:
      ask: for the result or the program.
      num_steps: of a program.
      max_length: of the lists; each length from 2 on is equally likely. Numbers are digits.
      num_tests: statements that a program is tested by.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the keys that is held out.
    """

    ask: Literal["result", "program"] = "result"
    num_steps: Annotated[int, Domain(1, 4)] = 2
    max_length: Annotated[int, Domain(2, 9)] = 5
    num_tests: PositiveInt = 3
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.1

    @property
    def chance(self) -> float:
        """Returns the accuracy of the commonest list of two numbers, or of any fixed program.

        Lists of two numbers are the commonest, since all lengths are equally likely.
        """
        if self.ask == "program":
            return float(len(STEPS)) ** -self.num_steps
        return _commonest(self.num_steps) / (self.max_length - 1)

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: the steps, the list and the tests' lists."""
        return 3

    def record(self, draws: np.ndarray) -> Record:
        """Returns a program with a list, and its result or its code."""
        steps = [STEPS[int(d) % len(STEPS)] for d in stream(draws[0], self.num_steps)]
        (values,) = self._lists(draws[1], 1)
        words = ", ".join(step.words for step in steps)
        tests = [
            f"assert solve({some}) == {_done(steps, some)}"
            for some in self._lists(draws[2], self.num_tests)
        ]
        record = {
            "steps": words,
            "values": _text(values),
            "result": _text(_done(steps, values)),
            "tests": tests,
        }
        if self.ask == "result":
            prompt = f"{words}: {_text(values)}="
            return record | {"prompt": prompt, "answer": record["result"], "key": prompt}
        head = f"def solve(values):\n    # {words}\n"
        body = "".join(f"    values = {step.code}\n" for step in steps)
        answer = f"{body}    return values\n"
        return record | {
            "prompt": head,
            "answer": answer,
            "key": words,
            "prefix": head,
            "suffix": "",
        }

    def _lists(self, draw: np.uint64, count: int) -> list[list[int]]:
        draws = stream(draw, count * (1 + self.max_length)).reshape(count, -1)
        lengths = 2 + (draws[:, 0] % np.uint64(self.max_length - 1)).astype(int)
        digits = (draws[:, 1:] % np.uint64(10)).tolist()
        return [some[:length] for some, length in zip(digits, lengths, strict=True)]


def _done(steps: list[Step], values: list[int]) -> list[int]:
    for step in steps:
        values = step.function(values)
    return values


def _text(values: list[int]) -> str:
    return " ".join(map(str, values))


@functools.cache
def _commonest(num_steps: int) -> float:
    """Returns the share of the commonest result among all programs on all pairs of digits."""
    pairs = np.stack(np.meshgrid(np.arange(10), np.arange(10), indexing="ij"), -1).reshape(-1, 2)
    found = [pairs]
    for _ in range(num_steps):
        found = list(itertools.chain.from_iterable(_each_step(some) for some in found))
    results = np.concatenate(found)
    codes = results[:, 0] * (results.max() + 1) + results[:, 1]
    return float(np.bincount(codes).max() / len(codes))


def _each_step(pairs: np.ndarray) -> list[np.ndarray]:
    """Maps [n, 2] pairs to the results of each of `STEPS`; of two numbers, rotating reverses."""
    added = [pairs + number for number in range(1, 10)]
    return [
        pairs[:, ::-1], np.sort(pairs, axis=1), pairs[:, ::-1], *added, pairs * 2, pairs * 3
    ]  # fmt: skip
