"""Brackets to close."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np

from jaxgen.data.generated.base import GeneratedSource
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt

OPENING, CLOSING = "([{<", ")]}>"


@dataclasses.dataclass(frozen=True)
class Dyck(GeneratedSource):
    """The brackets that are still open, closed in order: "[(()){}<[]=" -> ">]".

    1 to `depth` brackets stay open, each number equally likely; closed pairs are put in anywhere,
    one after another, so they nest. The key is the prompt.

    Attributes:
      kinds: of brackets, at most 4.
      depth: the most brackets that are open at the end.
      num_pairs: pairs that are opened and closed in the prompt.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the prompts that is held out.
    """

    kinds: Annotated[int, Domain(1, len(OPENING))] = 3
    depth: PositiveInt = 6
    num_pairs: PositiveInt = 10
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    @property
    def chance(self) -> float:
        """Returns the accuracy of ")": one in `depth` prompts has one open bracket, of any kind."""
        return 1 / (self.depth * self.kinds)

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: how many stay open, their kinds; for each pair two."""
        return 1 + self.depth + 2 * self.num_pairs

    def record(self, draws: np.ndarray) -> Record:
        """Returns a beginning of a balanced string, and its end."""
        left_open = 1 + int(draws[0]) % self.depth
        kinds = (draws[1:] % np.uint64(self.kinds)).astype(int)
        text = [OPENING[kind] for kind in kinds[:left_open]]
        for draw, kind in zip(draws[1 + self.depth :: 2], kinds[self.depth + 1 :: 2], strict=True):
            place = int(draw) % (len(text) + 1)
            text[place:place] = OPENING[kind], CLOSING[kind]
        answer = "".join(CLOSING[kind] for kind in kinds[:left_open][::-1])
        return {"prompt": "".join(text) + "=", "answer": answer, "key": "".join(text)}
