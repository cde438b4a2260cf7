"""Two numbers or two words, one of which is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated

import numpy as np

from jaxgen.data.generated.base import GeneratedSource
from jaxgen.data.generated.translation import NOUNS, VERBS
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt
from jaxgen.errors import ConfigError

WORDS = tuple(sorted((*NOUNS, *VERBS)))
RELATIONS: Mapping[str, Callable[[int, int], int]] = {
    "larger": max,
    "smaller": min,
    "earlier": min,
    "later": max,
}
"""Of numbers, and of words in the alphabet's order by their places in `WORDS`."""
OF_WORDS = ("earlier", "later")


@dataclasses.dataclass(frozen=True)
class PairOrder(GeneratedSource):
    """The larger or smaller of two numbers, the earlier or later of two words by the alphabet.

    "larger 52 17=" -> "52", "later king bird=" -> "king". The two always differ. The key is the
    pair in order, the same for all relations. Records have `relation`, `first` and `second` too.

    Attributes:
      relations: names from `RELATIONS`, each equally likely.
      digits: numbers have up to so many.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the pairs that is held out.
    """

    relations: tuple[str, ...] = tuple(RELATIONS)
    digits: Annotated[int, Domain(1, 18)] = 2
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    def __post_init__(self):
        super().__post_init__()
        unknown = [name for name in self.relations if name not in RELATIONS]
        if unknown or not self.relations or len(set(self.relations)) < len(self.relations):
            raise ConfigError(
                f"PairOrder.relations={self.relations}: use some of {', '.join(RELATIONS)}, "
                "each once."
            )

    @property
    def chance(self) -> float:
        """Returns the accuracy of the last or first number, or word.

        Of n things m is the larger of two with a probability of 2 m / n (n - 1), counted from 0:
        a line in m, and so is the sum with that of the smaller, which is largest at an end.
        """
        share = 1 / len(self.relations)
        sizes = {True: len(WORDS), False: 10**self.digits}
        return max(2 / sizes[name in OF_WORDS] * share for name in self.relations)

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: the relation and two things."""
        return 3

    def record(self, draws: np.ndarray) -> Record:
        """Returns a relation with two things, and the one that it asks for."""
        relation = self.relations[int(draws[0]) % len(self.relations)]
        size = len(WORDS) if relation in OF_WORDS else 10**self.digits
        one = int(draws[1]) % size
        other = (one + 1 + int(draws[2]) % (size - 1)) % size
        chosen = RELATIONS[relation](one, other)
        first, second, answer = (
            WORDS[n] if relation in OF_WORDS else str(n) for n in (one, other, chosen)
        )
        return {
            "prompt": f"{relation} {first} {second}=",
            "answer": answer,
            "key": f"{first} {second}",
            "relation": relation,
            "first": first,
            "second": second,
        }
