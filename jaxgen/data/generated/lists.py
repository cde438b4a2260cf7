"""Functions of short lists of digits, by name or to be found from examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import numpy as np

from jaxgen.data.generated.base import GeneratedSource, stream
from jaxgen.data.hashing import mix64
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt
from jaxgen.errors import ConfigError

Digits = list[int]
FUNCTIONS: Mapping[str, Callable[[Digits], Digits]] = {
    "reverse": lambda digits: digits[::-1],
    "sort": sorted,
    "rotate": lambda digits: digits[1:] + digits[:1],
    "unique": lambda digits: list(dict.fromkeys(digits)),
    "maximum": lambda digits: [max(digits)],
    "minimum": lambda digits: [min(digits)],
    "count": lambda digits: [len(digits)],
}
"""The functions; rotating moves the first digit to the end, unique keeps first occurrences."""


@dataclasses.dataclass(frozen=True)
class ListFunctions(GeneratedSource):
    """A function applied to a list of digits: "sort 3 1 2=" -> "1 2 3".

    With function_by="examples" the function is only shown: "3 1>1;5 4 7>4;8 0 9 2>" -> "0".
    Lists are drawn again until every function that agrees with the examples agrees on the answer
    too, so that it is exact. The key is the prompt.

    Attributes:
      functions: names from `FUNCTIONS`, each equally likely.
      max_length: of the lists, at most 9; each length from 2 on is equally likely.
      function_by: whether a function is named or shown by examples.
      num_shots: examples, where the function is shown by examples.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the prompts that is held out.
    """

    functions: tuple[str, ...] = tuple(FUNCTIONS)
    max_length: Annotated[int, Domain(2, 9)] = 6
    function_by: Literal["name", "examples"] = "name"
    num_shots: PositiveInt = 4
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    def __post_init__(self):
        super().__post_init__()
        unknown = [name for name in self.functions if name not in FUNCTIONS]
        if unknown or not self.functions or len(set(self.functions)) < len(self.functions):
            raise ConfigError(
                f"ListFunctions.functions={self.functions}: use some of {', '.join(FUNCTIONS)}, "
                "each once."
            )

    @property
    def chance(self) -> float:
        """Returns the accuracy of the digit, or pair of digits, that is most often the answer.

        Answers of one digit come from maximum, minimum, count, and from unique where all digits
        are equal; without those functions the commonest answer has two digits. With
        function_by="examples", lists that are drawn again change this by little.
        """
        return max(*(self._share_of_digit(digit) for digit in range(10)), self._share_of_pair())

    def _share_of_digit(self, digit: int) -> float:
        lengths = np.arange(2, self.max_length + 1)
        shares = {
            "maximum": np.mean(
                ((digit + 1.0) ** lengths - float(digit) ** lengths) / 10.0**lengths
            ),
            "minimum": np.mean(
                ((10.0 - digit) ** lengths - (9.0 - digit) ** lengths) / 10.0**lengths
            ),
            "count": np.mean(lengths == digit),
            "unique": np.mean(10.0**-lengths),
        }
        return float(sum(shares.get(name, 0.0) for name in self.functions) / len(self.functions))

    def _share_of_pair(self) -> float:
        """Returns the share of the answer "0 1": in order, and of two different digits."""
        lengths = np.arange(2, self.max_length + 1)
        two = 1 / 100 / len(lengths)
        shares = {
            "reverse": two,
            "rotate": two,
            "sort": 2 * two,
            # The first digit leads, and both are there.
            "unique": float(np.mean((2.0 ** (lengths - 1) - 1) / 10.0**lengths)),
        }
        return sum(shares.get(name, 0.0) for name in self.functions) / len(self.functions)

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: the function, and the seed of the lists."""
        return 2

    def record(self, draws: np.ndarray) -> Record:
        """Returns a function and a list, and the result."""
        name = self.functions[int(draws[0]) % len(self.functions)]
        shots = self.num_shots if self.function_by == "examples" else 0
        lists, attempt = self._lists(draws[1], shots + 1), 0
        while shots and not self._determined(name, lists):
            attempt += 1
            lists = self._lists(mix64(draws[1:] + np.uint64(attempt))[0], shots + 1)
        *examples, asked = lists
        shown = "".join(f"{_text(x)}>{_text(FUNCTIONS[name](x))};" for x in examples)
        prompt = f"{shown}{_text(asked)}>" if shots else f"{name} {_text(asked)}="
        return {"prompt": prompt, "answer": _text(FUNCTIONS[name](asked)), "key": prompt,
                "function": name}  # fmt: skip

    def _lists(self, draw: np.uint64, count: int) -> list[Digits]:
        draws = stream(draw, count * (1 + self.max_length)).reshape(count, -1)
        lengths = 2 + (draws[:, 0] % np.uint64(self.max_length - 1)).astype(int)
        digits = (draws[:, 1:] % np.uint64(10)).tolist()
        return [some[:length] for some, length in zip(digits, lengths, strict=True)]

    def _determined(self, name: str, lists: list[Digits]) -> bool:
        *examples, asked = lists
        function = FUNCTIONS[name]
        return all(
            FUNCTIONS[other](asked) == function(asked)
            or any(FUNCTIONS[other](x) != function(x) for x in examples)
            for other in self.functions
        )


def _text(digits: Digits) -> str:
    return " ".join(map(str, digits))
