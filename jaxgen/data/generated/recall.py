"""Recall within the prompt: values of keys, and what followed a token before."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import numpy as np

from jaxgen.data.generated.base import LOWER, UPPER, GeneratedSource, fold
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt
from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class AssociativeRecall(GeneratedSource):
    """Multi-query associative recall (MQAR, 2312.04927): "aXbYcZ?" then "b" -> "Y", "a" -> "X" ...

    Lower-case keys, each once, with upper-case values; then keys are asked for, each once, and
    the loss is on their values. The key of an instance is all its pairs.

    Attributes:
      num_pairs: pairs to remember, at most 26.
      num_queries: of them that are asked for.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the assignments that is held out.
    """

    num_pairs: Annotated[int, Domain(1, len(LOWER))] = 8
    num_queries: PositiveInt = 7
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    def __post_init__(self):
        super().__post_init__()
        if self.num_queries > self.num_pairs:
            raise ConfigError(
                f"AssociativeRecall.num_queries={self.num_queries} must be at most num_pairs="
                f"{self.num_pairs}."
            )

    @property
    def chance(self) -> float:
        """Returns the accuracy of any fixed string: values are uniform and independent."""
        return float(len(UPPER)) ** -self.num_queries

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: ranks of letters, values of pairs, ranks of queries."""
        return len(LOWER) + 2 * self.num_pairs

    def _parts(self, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        letters, pairs = len(LOWER), self.num_pairs
        keys = np.argsort(draws[..., :letters], axis=-1)[..., :pairs]
        values = (draws[..., letters : letters + pairs] % np.uint64(len(UPPER))).astype(int)
        queries = np.argsort(draws[..., letters + pairs :], axis=-1)[..., : self.num_queries]
        return keys, values, queries

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """Returns a hash of the pairs in order."""
        keys, values, _ = self._parts(draws)
        return fold(keys * len(UPPER) + values)

    def record(self, draws: np.ndarray) -> Record:
        """Returns the pairs and the first query, then one query per turn."""
        keys, values, queries = self._parts(draws)
        pairs = "".join(f"{LOWER[k]}{UPPER[v]}" for k, v in zip(keys, values, strict=True))
        turns = [[str(LOWER[keys[q]]), str(UPPER[values[q]])] for q in queries]
        turns[0][0] = f"{pairs}?{turns[0][0]}"
        return {"turns": turns, "key": pairs}


@dataclasses.dataclass(frozen=True)
class Induction(GeneratedSource):
    """The letters that followed a letter before: "qhwebz:h" -> "w", or with span=2 "we".

    A sequence of letters, each at most once, then one of them again. The key is the sequence, so
    all questions about it are of one split.

    Attributes:
      length: letters of the sequence, at most 26.
      span: letters to repeat, fewer than `length`.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the sequences that is held out.
    """

    length: Annotated[int, Domain(2, len(LOWER))] = 16
    span: PositiveInt = 1
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    def __post_init__(self):
        super().__post_init__()
        if self.span >= self.length:
            raise ConfigError(
                f"Induction.span={self.span} must be at most length - 1 = {self.length - 1}."
            )

    @property
    def chance(self) -> float:
        """Returns the accuracy of any fixed string of different letters: all are equally likely."""
        return 1 / math.perm(len(LOWER), self.span)

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: ranks of the letters, and the place that is asked for."""
        return len(LOWER) + 1

    def _letters(self, draws: np.ndarray) -> np.ndarray:
        return np.argsort(draws[..., : len(LOWER)], axis=-1)[..., : self.length]

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """Returns a hash of the sequence."""
        return fold(self._letters(draws))

    def record(self, draws: np.ndarray) -> Record:
        """Returns the sequence and a letter of it, and the letters after that."""
        text = "".join(LOWER[self._letters(draws)])
        place = int(draws[-1]) % (self.length - self.span)
        return {
            "prompt": f"{text}:{text[place]}",
            "answer": text[place + 1 : place + 1 + self.span],
            "key": text,
        }
