"""Tasks with exact answers, made on the spot: record i is a function of (task, split, i).

A record's key decides its split by a hash, and a record of the wrong split is drawn again, so no
held-out key is ever trained on.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jaxgen.data.hashing import hash64, mix64
from jaxgen.data.sources import Record, Split
from jaxgen.errors import ConfigError

LOWER = np.array(list(string.ascii_lowercase))
UPPER = np.array(list(string.ascii_uppercase))


class Generator(Protocol):
    """What a generated task defines: its draws, and the record that draws make."""

    @property
    def num_examples(self) -> int: ...

    @property
    def heldout_fraction(self) -> float: ...

    @property
    def num_draws(self) -> int: ...

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """[examples, num_draws] uint64 -> [examples] uint64, equal for equal instances."""
        ...

    def record(self, draws: np.ndarray) -> Record:
        """[num_draws] uint64 -> the record."""
        ...


@dataclasses.dataclass(frozen=True)
class GeneratedRecords:
    """Random access to a generator's records of one split."""

    generator: Generator
    split: Split

    def __len__(self) -> int:
        return self.generator.num_examples

    def __getitem__(self, index: int) -> Record:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Record]:
        """The records of several indices, drawn at once."""
        return [self.generator.record(draws) for draws in self._draws(np.asarray(indices))]

    def _draws(self, indices: np.ndarray) -> np.ndarray:
        generator = self.generator
        salt = np.uint64(hash64(type(generator).__name__, self.split))
        threshold = np.uint64(min(generator.heldout_fraction * 2.0**64, 2.0**64 - 2**11))
        columns = np.arange(generator.num_draws, dtype=np.uint64)
        draws = np.zeros((len(indices), generator.num_draws), np.uint64)
        missing = np.arange(len(indices))
        attempt = 0
        while len(missing):
            start = mix64(indices[missing].astype(np.uint64) * np.uint64(2**20) + salt)
            start = mix64(start + np.uint64(attempt))
            drawn = mix64(start[:, None] + columns * np.uint64(0x9E3779B97F4A7C15))
            heldout = mix64(generator.keys(drawn) ^ np.uint64(0xA5A5A5A5A5A5A5A5)) < threshold
            right = heldout == (self.split == "heldout")
            draws[missing[right]] = drawn[right]
            missing = missing[~right]
            attempt += 1
        return draws


class _Generated:
    """What all generated sources share."""

    def open(self, split: Split) -> GeneratedRecords:
        """Random access to the records of a split."""
        return GeneratedRecords(self, split)  # pyright: ignore[reportArgumentType]

    def read(self, split: Split):
        """The records of a split, one after another."""
        records = self.open(split)
        return (records[index] for index in range(len(records)))

    def content_digest(self) -> None:
        """Made on the spot, never cached."""

    def __post_init__(self):
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            if field.name == "heldout_fraction":
                if not 0 < value < 1:
                    raise ConfigError(f"{type(self).__name__}.heldout_fraction={value}: use 0..1.")
            elif value < 1:
                raise ConfigError(f"{type(self).__name__}.{field.name}={value} must be positive.")


@dataclasses.dataclass(frozen=True)
class Addition(_Generated):
    """Multi-digit addition, most significant digit first: "042+915=" -> "0957".

    Numbers are padded with zeros, so all instances are equally long. The key is the pair.

    Attributes:
      digits: of each summand.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the pairs that is held out.
    """

    digits: int = 3
    num_examples: int = 1_000_000
    heldout_fraction: float = 0.05

    @property
    def num_draws(self) -> int:
        """Two summands."""
        return 2

    def _summands(self, draws: np.ndarray) -> np.ndarray:
        return draws % np.uint64(10**self.digits)

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """The pair as one number."""
        first, second = self._summands(draws).T
        return first * np.uint64(10**self.digits) + second

    def record(self, draws: np.ndarray) -> Record:
        """Problem and sum."""
        first, second = (int(number) for number in self._summands(draws))
        width = self.digits
        return {
            "prompt": f"{first:0{width}}+{second:0{width}}=",
            "answer": f"{first + second:0{width + 1}}",
            "key": f"{first}+{second}",
        }


@dataclasses.dataclass(frozen=True)
class AssociativeRecall(_Generated):
    """Multi-query associative recall (MQAR, 2312.04927): "aXbYcZ?" then "b" -> "Y", "a" -> "X" ...

    Lower-case keys, each once, with upper-case values; then keys are asked for, each once, and
    the loss is on their values. The key of an instance is all its pairs.

    Attributes:
      num_pairs: pairs to remember, at most 26.
      num_queries: of them that are asked for.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the assignments that is held out.
    """

    num_pairs: int = 8
    num_queries: int = 7
    num_examples: int = 1_000_000
    heldout_fraction: float = 0.05

    def __post_init__(self):
        super().__post_init__()
        if not self.num_queries <= self.num_pairs <= len(LOWER):
            raise ConfigError(
                f"AssociativeRecall asks for num_queries <= num_pairs <= {len(LOWER)}, not "
                f"{self.num_queries} and {self.num_pairs}."
            )

    @property
    def num_draws(self) -> int:
        """Ranks of the letters, values of the pairs, ranks of the queries."""
        return len(LOWER) + 2 * self.num_pairs

    def _parts(self, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        letters, pairs = len(LOWER), self.num_pairs
        keys = np.argsort(draws[..., :letters], axis=-1)[..., :pairs]
        values = (draws[..., letters : letters + pairs] % np.uint64(len(UPPER))).astype(int)
        queries = np.argsort(draws[..., letters + pairs :], axis=-1)[..., : self.num_queries]
        return keys, values, queries

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """A hash of the pairs in order."""
        keys, values, _ = self._parts(draws)
        return _fold(keys * len(UPPER) + values)

    def record(self, draws: np.ndarray) -> Record:
        """Pairs and first query, then a query a turn."""
        keys, values, queries = self._parts(draws)
        pairs = "".join(f"{LOWER[k]}{UPPER[v]}" for k, v in zip(keys, values, strict=True))
        turns = [[str(LOWER[keys[q]]), str(UPPER[values[q]])] for q in queries]
        turns[0][0] = f"{pairs}?{turns[0][0]}"
        return {"turns": turns, "key": pairs}


@dataclasses.dataclass(frozen=True)
class Copying(_Generated):
    """Repeat what was said: "qwexyz=" -> "qwexyz". The key is the string.

    Attributes:
      length: letters to copy.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the strings that is held out.
    """

    length: int = 15
    num_examples: int = 1_000_000
    heldout_fraction: float = 0.05

    @property
    def num_draws(self) -> int:
        """One a letter."""
        return self.length

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """A hash of the letters."""
        return _fold(draws % np.uint64(len(LOWER)))

    def record(self, draws: np.ndarray) -> Record:
        """The string, twice."""
        text = "".join(LOWER[(draws % np.uint64(len(LOWER))).astype(int)])
        return {"prompt": f"{text}=", "answer": text, "key": text}


@dataclasses.dataclass(frozen=True)
class LookupChain(_Generated):
    """A control that looks emergent and is not: several independently memorised symbols.

    Each two-letter code stands for one fixed symbol: "fq" -> "T", "ab" -> "M" ... Nothing but the
    codes' symbols can be learnt, one by one, so accuracy a symbol grows smoothly; an exact match
    needs all `chain` of them, the accuracy to the power of `chain`, and jumps. Held-out instances
    are unseen combinations of codes that were all learnt.

    Attributes:
      chain: symbols in an answer.
      num_codes: codes to memorise, at most 676.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the combinations that is held out.
    """

    chain: int = 8
    num_codes: int = 512
    num_examples: int = 1_000_000
    heldout_fraction: float = 0.05

    def __post_init__(self):
        super().__post_init__()
        if self.num_codes > len(LOWER) ** 2:
            raise ConfigError(f"LookupChain.num_codes={self.num_codes} exceeds {len(LOWER) ** 2}.")

    @property
    def num_draws(self) -> int:
        """One a code."""
        return self.chain

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """A hash of the codes in order."""
        return _fold(draws % np.uint64(self.num_codes))

    def record(self, draws: np.ndarray) -> Record:
        """A code and its symbol a turn."""
        codes = (draws % np.uint64(self.num_codes)).astype(np.int64)
        symbols = (mix64(codes + 1) % np.uint64(len(UPPER))).astype(int)
        first, second = np.divmod(codes, len(LOWER))
        names = [f"{LOWER[a]}{LOWER[b]}" for a, b in zip(first, second, strict=True)]
        turns = [[name, str(UPPER[s])] for name, s in zip(names, symbols, strict=True)]
        return {"turns": turns, "key": "".join(names)}


def _fold(symbols: np.ndarray) -> np.ndarray:
    """[examples, n] small numbers -> [examples] uint64 hashes of the sequences."""
    folded = np.zeros(symbols.shape[:-1], np.uint64)
    for column in np.moveaxis(symbols, -1, 0):
        folded = mix64(folded * np.uint64(31) + column.astype(np.uint64) + np.uint64(1))
    return folded
