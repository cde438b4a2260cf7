"""Tasks with exact answers, made on the spot: record i is a function of (task, split, i).

A record's key decides its split by a hash, and a record of the wrong split is drawn again, so no
held-out key is ever trained on.

Every source says its `chance`: the rate of exact matches that the best answer gives which does not
depend on the prompt. An instance is drawn uniformly, so that is the share of the commonest answer.
"""

from __future__ import annotations

import dataclasses
import string
import typing
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jaxgen.data.hashing import hash64, mix64
from jaxgen.data.sources import Record, Split
from jaxgen.errors import ConfigError

T = typing.TypeVar("T")
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
        # A split of the rarer kind needs 1 / share attempts on average; this many mean it is empty.
        most = 50 / min(generator.heldout_fraction, 1 - generator.heldout_fraction)
        while len(missing):
            start = mix64(indices[missing].astype(np.uint64) * np.uint64(2**20) + salt)
            start = mix64(start + np.uint64(attempt))
            drawn = mix64(start[:, None] + columns * np.uint64(0x9E3779B97F4A7C15))
            heldout = mix64(generator.keys(drawn) ^ np.uint64(0xA5A5A5A5A5A5A5A5)) < threshold
            right = heldout == (self.split == "heldout")
            draws[missing[right]] = drawn[right]
            missing = missing[~right]
            attempt += 1
            if attempt > most:
                raise ConfigError(
                    f"{generator} has hardly any key in its {self.split} split; make its instances "
                    "more various, or its heldout_fraction another."
                )
        return draws


class GeneratedSource:
    """What all generated sources share: access by index, keys by text, and checks of settings."""

    def record(self, draws: np.ndarray) -> Record:
        """[num_draws] uint64 -> the record."""
        raise NotImplementedError

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """Hashes of the records' keys; a source with many draws an example does it in numpy."""
        return np.array([hash64(self.record(row)["key"]) for row in draws], np.uint64)

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
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            choices = typing.get_args(hints[field.name])
            if field.name == "heldout_fraction":
                if not 0 < value < 1:
                    raise ConfigError(f"{type(self).__name__}.heldout_fraction={value}: use 0..1.")
            elif typing.get_origin(hints[field.name]) is typing.Literal:
                if value not in choices:
                    raise ConfigError(
                        f"{type(self).__name__}.{field.name}={value!r}: use one of "
                        f"{', '.join(map(repr, choices))}."
                    )
            elif isinstance(value, int | float) and value < (1 if isinstance(value, int) else 1e-9):
                raise ConfigError(f"{type(self).__name__}.{field.name}={value} must be positive.")


def fold(symbols: np.ndarray) -> np.ndarray:
    """[examples, n] small numbers -> [examples] uint64 hashes of the sequences."""
    folded = np.zeros(symbols.shape[:-1], np.uint64)
    for column in np.moveaxis(symbols, -1, 0):
        folded = mix64(folded * np.uint64(31) + column.astype(np.uint64) + np.uint64(1))
    return folded


def choose(draw: np.uint64, options: typing.Sequence[T]) -> T:
    """One of the options; each as likely as any other, to one in 2^64 / len(options)."""
    return options[int(draw) % len(options)]


def stream(draw: np.uint64, count: int) -> np.ndarray:
    """[count] uint64 draws from one, for records that need a varying number of them."""
    places = np.arange(1, count + 1, dtype=np.uint64)
    return mix64(mix64(np.atleast_1d(draw)) + places * np.uint64(0x9E3779B97F4A7C15))
