"""Holes in small Python functions, with tests to run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from jaxgen.data.generated.base import GeneratedSource, choose, stream
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt

HOLE = "<hole>"


@dataclasses.dataclass(frozen=True)
class ProgramFamily:
    """Functions that differ in two numbers.

    Attributes:
      before: the program up to the hole.
      middle: what belongs there, with {a} and {b}.
      after: the program from there on.
      result: of the function: (a, b, values) -> what it returns.
    """

    before: str
    middle: str
    after: str
    result: Callable[[int, int, list[int]], Any]


FAMILIES = (
    ProgramFamily(
        "def solve(values):\n    total = 0\n    for value in values:\n        ",
        "total += {a} * value + {b}",
        "\n    return total\n",
        lambda a, b, values: a * sum(values) + b * len(values),
    ),
    ProgramFamily(
        "def solve(values):\n    return [",
        "value * {a} + {b}",
        " for value in values]\n",
        lambda a, b, values: [v * a + b for v in values],
    ),
    ProgramFamily(
        "def solve(values):\n    result = []\n    for value in values:\n        if ",
        "value % {a} == 0 or value > {b}",
        ":\n            result.append(value)\n    return result\n",
        lambda a, b, values: [v for v in values if not v % a or v > b],
    ),
    ProgramFamily(
        "def solve(values):\n    state = 0\n    for value in values:\n        state = ",
        "state * {a} + value - {b}",
        "\n    return state\n",
        lambda a, b, values: sum((v - b) * a**i for i, v in enumerate(reversed(values))),
    ),
)


@dataclasses.dataclass(frozen=True)
class CodeInfilling(GeneratedSource):
    """A hole in a Python function, to be filled so that its tests pass.

    The prompt is the program with "<hole>", its tests and "# <hole>:\\n"; the answer is one text
    that fills it:

        def solve(values):
            return [<hole> for value in values]
        assert solve([3, 1, 12]) == [11, 5, 38]
        assert solve([7]) == [23]
        # <hole>:                                      -> "value * 3 + 2"

    Other texts may pass the tests as well: records have `prefix`, `suffix` and `tests`, by which
    `jaxgen.evaluation.sandbox.run_candidate(prefix + completion + suffix, tests)` scores them. The
    key is the reference program.

    Attributes:
      largest: the largest value of the two numbers to find, each from 2 on.
      num_tests: the number of tests that are shown and run.
      length: most values in a test's list.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the programs that is held out.
    """

    largest: Annotated[int, Domain(3)] = 20
    num_tests: PositiveInt = 3
    length: PositiveInt = 4
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    @property
    def chance(self) -> float:
        """Returns the accuracy of any fixed middle, to the letter: all are equally likely."""
        return 1 / (len(FAMILIES) * (self.largest - 1) ** 2)

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: the family, its numbers and the tests."""
        return 4

    def record(self, draws: np.ndarray) -> Record:
        """Returns a program with a hole and its tests, and the text of the hole."""
        family = choose(draws[0], FAMILIES)
        a, b = (2 + int(draw) % (self.largest - 1) for draw in draws[1:3])
        middle = family.middle.format(a=a, b=b)
        rows = stream(draws[3], self.num_tests * (1 + self.length)).reshape(self.num_tests, -1)
        tests = []
        for row in rows:
            length = 1 + int(row[0]) % self.length
            values = [int(draw) % (2 * self.largest) for draw in row[1 : 1 + length]]
            tests.append(f"assert solve({values}) == {family.result(a, b, values)}")
        shown = "\n".join(tests)
        return {
            "prompt": f"{family.before}{HOLE}{family.after}{shown}\n# {HOLE}:\n",
            "answer": middle,
            "key": f"{family.before}{middle}{family.after}",
            "prefix": family.before,
            "suffix": family.after,
            "tests": tests,
        }
