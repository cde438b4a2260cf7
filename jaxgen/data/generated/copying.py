"""Letters to copy and facts to memorise: controls whose accuracy grows smoothly."""

from __future__ import annotations

import dataclasses
import itertools
import string
from typing import Literal

import numpy as np

from jaxgen.data.generated.base import LOWER, UPPER, GeneratedSource, fold
from jaxgen.data.hashing import mix64
from jaxgen.data.protocols import Record
from jaxgen.domains import InnerFraction, PositiveInt
from jaxgen.errors import ConfigError

LONG_CODES = tuple("".join(pair) for pair in itertools.product(LOWER, LOWER))
SHORT_CODES = tuple(string.ascii_lowercase + string.digits + string.punctuation)


@dataclasses.dataclass(frozen=True)
class Copying(GeneratedSource):
    """Letters to copy: "qwexyz=" -> "qwexyz". The key is the string.

    Attributes:
      length: letters to copy.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the strings that is held out.
    """

    length: PositiveInt = 15
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    @property
    def chance(self) -> float:
        """Returns the accuracy of any fixed string: letters are uniform and independent."""
        return float(len(LOWER)) ** -self.length

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: one for each letter."""
        return self.length

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """Returns a hash of the letters."""
        return fold(draws % np.uint64(len(LOWER)))

    def record(self, draws: np.ndarray) -> Record:
        """Returns the string, twice."""
        text = "".join(LOWER[(draws % np.uint64(len(LOWER))).astype(int)])
        return {"prompt": f"{text}=", "answer": text, "key": text}


@dataclasses.dataclass(frozen=True)
class LookupChain(GeneratedSource):
    """A control that looks emergent and is not: several independently memorised symbols.

    Each code stands for one fixed symbol: "fq" -> "T", "ab" -> "M" ... The codes'
    symbols can only be memorised, one by one, so accuracy a symbol grows smoothly; an exact match
    needs all `chain` of them, the accuracy to the power of `chain`, and jumps. Held-out instances
    are unseen combinations of codes that were all seen.

    Codes of two letters take a model of bytes one more thing to learn: to bring the letters
    together, which seeds of one layer do more or less well. As a control take codes of one.

    Attributes:
      chain: symbols in an answer.
      num_codes: codes to memorise, at most 676 of two letters, 68 of one character.
      code_length: 2 lower-case letters, or 1 letter, digit or punctuation mark.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the combinations that is held out.
    """

    chain: PositiveInt = 8
    num_codes: PositiveInt = 512
    code_length: Literal[1, 2] = 2
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    def __post_init__(self):
        super().__post_init__()
        if self.num_codes > len(self._codes):
            raise ConfigError(
                f"LookupChain.num_codes={self.num_codes} exceeds the {len(self._codes)} codes of "
                f"code_length={self.code_length}."
            )

    @property
    def _codes(self) -> tuple[str, ...]:
        return SHORT_CODES if self.code_length == 1 else LONG_CODES

    @property
    def chance(self) -> float:
        """Returns the accuracy of the symbol that most codes stand for; codes are independent."""
        symbols = mix64(np.arange(1, self.num_codes + 1)) % np.uint64(len(UPPER))
        return float(np.bincount(symbols.astype(int)).max() / self.num_codes) ** self.chain

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: one for each code."""
        return self.chain

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """Returns a hash of the codes in order."""
        return fold(draws % np.uint64(self.num_codes))

    def record(self, draws: np.ndarray) -> Record:
        """Returns turns of a code and its symbol."""
        codes = (draws % np.uint64(self.num_codes)).astype(np.int64)
        symbols = (mix64(codes + 1) % np.uint64(len(UPPER))).astype(int)
        names = [self._codes[code] for code in codes]
        turns = [[name, str(UPPER[s])] for name, s in zip(names, symbols, strict=True)]
        return {"turns": turns, "key": "".join(names)}
