"""Tasks with exact answers, made on the spot: record i is a function of (task, split, i).

A record's key decides its split by a hash, and a record of the wrong split is drawn again, so no
held-out key is ever trained on.

Every source has its `chance`: the rate of exact matches of the best answer that does not depend on
the prompt. Instances are drawn uniformly, so that is the share of the commonest answer.
"""

from __future__ import annotations

import dataclasses
import string
import typing
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jaxgen.data.hashing import hash64, mix64
from jaxgen.data.protocols import Record, Split
from jaxgen.domains import check_domains
from jaxgen.errors import ConfigError

T = typing.TypeVar("T")
LOWER = np.array(list(string.ascii_lowercase))
UPPER = np.array(list(string.ascii_uppercase))


class Generator(Protocol):
    """The part of a generated task that each family defines: its draws and its records."""

    @property
    def num_examples(self) -> int: ...

    @property
    def heldout_fraction(self) -> float: ...

    @property
    def num_draws(self) -> int: ...

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """Maps [examples, num_draws] uint64 to [examples] uint64, equal for equal instances."""
        ...

    def record(self, draws: np.ndarray) -> Record:
        """Returns the record of [num_draws] uint64."""
        ...


@dataclasses.dataclass(frozen=True)
class GeneratedRecords:
    """Random access to a generator's records of one split."""

    generator: Generator
    split: Split

    def __len__(self) -> int:
        return self.generator.num_examples

    def __getitems__(self, indices: Sequence[int]) -> list[Record]:
        """Returns the records of several indices, drawn at once."""
        return [self.generator.record(draws) for draws in self._draws(np.asarray(indices))]

    def _draws(self, indices: np.ndarray) -> np.ndarray:
        generator = self.generator
        name = type(generator).__name__
        threshold = np.uint64(min(generator.heldout_fraction * 2.0**64, 2.0**64 - 2**11))
        draws = np.zeros((len(indices), generator.num_draws), np.uint64)
        missing = np.arange(len(indices))
        attempt = 0
        # A split of the rarer kind needs 1 / share attempts on average; this many mean it is empty.
        most = 50 / min(generator.heldout_fraction, 1 - generator.heldout_fraction)
        while len(missing):
            drawn = draws_of(name, self.split, indices[missing], generator.num_draws, attempt)
            heldout = mix64(generator.keys(drawn) ^ np.uint64(0xA5A5A5A5A5A5A5A5)) < threshold
            is_of_split = heldout == (self.split == "heldout")
            draws[missing[is_of_split]] = drawn[is_of_split]
            missing = missing[~is_of_split]
            attempt += 1
            if attempt > most:
                raise ConfigError(
                    f"{generator} has hardly any key in its {self.split} split; make its instances "
                    "more various, or its heldout_fraction another."
                )
        return draws


class SplitGenerator(Protocol):
    """A generator that draws the records of each split from the split's own choices."""

    @property
    def num_examples(self) -> int: ...

    @property
    def num_draws(self) -> int: ...

    def record_of(self, draws: np.ndarray, split: Split) -> Record:
        """Returns the record of [num_draws] uint64 in a split."""
        ...


@dataclasses.dataclass(frozen=True)
class SplitRecords:
    """Random access to the records that a generator draws for one split; none is drawn again."""

    generator: SplitGenerator
    split: Split

    def __len__(self) -> int:
        return self.generator.num_examples

    def __getitems__(self, indices: Sequence[int]) -> list[Record]:
        """Returns the records of several indices."""
        name, count = type(self.generator).__name__, self.generator.num_draws
        draws = draws_of(name, self.split, np.asarray(indices), count)
        return [self.generator.record_of(row, self.split) for row in draws]


def draws_of(
    name: str, split: Split, indices: np.ndarray, count: int, attempt: int = 0
) -> np.ndarray:
    """Returns [indices, count] uint64: random numbers of a source, its split and an index."""
    salt = np.uint64(hash64(name, split))
    start = mix64(indices.astype(np.uint64) * np.uint64(2**20) + salt)
    start = mix64(start + np.uint64(attempt))
    columns = np.arange(count, dtype=np.uint64)
    return mix64(start[:, None] + columns * np.uint64(0x9E3779B97F4A7C15))


class GeneratedSource:
    """The base of generated sources: access by index, keys by text, and checks of settings."""

    def record(self, draws: np.ndarray) -> Record:
        """Returns the record of [num_draws] uint64."""
        raise NotImplementedError

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """Returns hashes of the records' keys; sources with many draws do it in numpy."""
        return np.array([hash64(self.record(row)["key"]) for row in draws], np.uint64)

    def records_by_index(self, split: Split) -> GeneratedRecords:
        """Opens the records of a split; see `IndexedSource`."""
        return GeneratedRecords(self, split)  # pyright: ignore[reportArgumentType]

    def __post_init__(self):
        check_domains(self, type(self).__name__)
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            choices = typing.get_args(hints[field.name])
            if typing.get_origin(hints[field.name]) is typing.Literal and value not in choices:
                raise ConfigError(
                    f"{type(self).__name__}.{field.name}={value!r}: use one of "
                    f"{', '.join(map(repr, choices))}."
                )


def fold(symbols: np.ndarray) -> np.ndarray:
    """Maps [examples, n] small numbers to [examples] uint64 hashes of the sequences."""
    folded = np.zeros(symbols.shape[:-1], np.uint64)
    for column in np.moveaxis(symbols, -1, 0):
        folded = mix64(folded * np.uint64(31) + column.astype(np.uint64) + np.uint64(1))
    return folded


def choose(draw: np.uint64, options: typing.Sequence[T]) -> T:
    """Returns one of the options; each as likely as any other, to one in 2^64 / len(options)."""
    return options[int(draw) % len(options)]


def stream(draw: np.uint64, count: int) -> np.ndarray:
    """Makes [count] uint64 draws from one, for records that need a varying number of them."""
    places = np.arange(1, count + 1, dtype=np.uint64)
    return mix64(mix64(np.atleast_1d(draw)) + places * np.uint64(0x9E3779B97F4A7C15))
