"""Many parities in one task, some much rarer than others."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from jaxgen.data.generated.base import GeneratedSource, fold
from jaxgen.data.hashing import permutation
from jaxgen.data.protocols import Record
from jaxgen.domains import InnerFraction, NonNegativeInt, PositiveFloat, PositiveInt
from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class SparseParity(GeneratedSource):
    """Multitask sparse parity (2303.13506): "0100 01101001=" -> "1".

    Control bits, one of which is set, name a subtask; its answer is the parity of `subset` of the
    `num_bits` bits, which ones being fixed by the subtask's number. Subtask i is drawn with a
    probability proportional to i^-(exponent + 1). The key is the whole prompt.

    Attributes:
      num_subtasks: the number of subtasks, and of control bits.
      num_bits: bits after the control bits.
      subset: bits whose parity counts.
      exponent: how much rarer later subtasks are.
      drawn: the subtasks that instances are of, from 0, so that some can be scored separately;
        (): all.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the prompts that is held out.
    """

    num_subtasks: PositiveInt = 32
    num_bits: PositiveInt = 32
    subset: PositiveInt = 3
    exponent: PositiveFloat = 0.4
    drawn: tuple[NonNegativeInt, ...] = ()
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    def __post_init__(self):
        super().__post_init__()
        if self.subset > self.num_bits:
            raise ConfigError(
                f"SparseParity.subset={self.subset} exceeds num_bits={self.num_bits}; use at most "
                "all bits."
            )
        if not set(self.drawn) <= set(range(self.num_subtasks)):
            raise ConfigError(
                f"SparseParity.drawn={self.drawn} are not all among the subtasks 0 to "
                f"{self.num_subtasks - 1}."
            )

    @property
    def chance(self) -> float:
        """Returns the accuracy of 0: the parity of uniform bits is even half of the time."""
        return 0.5

    @property
    def frequencies(self) -> np.ndarray:
        """Returns the probabilities of the subtasks, [num_subtasks]."""
        weights = np.arange(1, self.num_subtasks + 1) ** -(self.exponent + 1.0)
        if self.drawn:
            weights *= np.isin(np.arange(self.num_subtasks), self.drawn)
        return weights / weights.sum()

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.frequencies)[:-1]

    def places(self, subtask: int) -> np.ndarray:
        """Returns the bits that count in a subtask, [subset]."""
        return _places(self.num_bits, self.subset, subtask)

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: the subtask, and one for each bit."""
        return 1 + self.num_bits

    def _parts(self, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        uniform = (draws[..., 0] >> np.uint64(11)) * 2.0**-53
        subtasks = np.searchsorted(self._ends, uniform, side="right")
        return np.asarray(subtasks), draws[..., 1:] >> np.uint64(63)

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """Returns a hash of subtask and bits."""
        subtasks, bits = self._parts(draws)
        return fold(np.concatenate([subtasks[:, None].astype(np.uint64), bits], axis=1))

    def record(self, draws: np.ndarray) -> Record:
        """Returns control bits and bits, and their parity."""
        subtask, bits = self._parts(draws)
        control = "".join("01"[int(place == subtask)] for place in range(self.num_subtasks))
        prompt = f"{control} {''.join(map(str, bits))}="
        parity = int(bits[self.places(int(subtask))].sum()) % 2
        return {"prompt": prompt, "answer": str(parity), "key": prompt, "subtask": int(subtask)}


@functools.cache
def _places(num_bits: int, subset: int, subtask: int) -> np.ndarray:
    return np.sort(permutation(num_bits, "sparse parity", subtask)[:subset])
