"""Which positions may attend to which: a small algebra of predicates over queries and keys.

A predicate is frozen data and a function of two sets of places. A layer holds a tuple of them, all
of which must hold; `|` is either. That a query sees only its own segment always holds.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.errors import ConfigError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Places:
    """Where tokens stand; all [batch, length] int32.

    Attributes:
      positions: counted in each segment.
      segment_ids: 0 is padding, which sees padding only, so that no softmax is empty.
      block_ids: of tokens that see one another whatever their order; see `BlockCausal`.
    """

    positions: Any
    segment_ids: Any
    block_ids: Any


def places(
    positions: jax.Array, segment_ids: jax.Array, block_ids: jax.Array | None = None
) -> Places:
    """Where tokens stand; without block ids each is its own block."""
    return Places(positions, segment_ids, positions if block_ids is None else block_ids)


class _Predicate:
    """`holds` is a [batch, queries, keys] bool; `looks_ahead` whether a later key may be seen."""

    looks_ahead = True

    def holds(self, queries: Places, keys: Places) -> jax.Array:
        raise NotImplementedError

    def __or__(self, other: Any) -> Either:
        return Either((self, other))  # pyright: ignore[reportArgumentType]


@dataclasses.dataclass(frozen=True)
class Causal(_Predicate):
    """Keys up to the query's own position."""

    looks_ahead = False

    def holds(self, queries: Places, keys: Places) -> jax.Array:
        return _distance(queries, keys) >= 0


@dataclasses.dataclass(frozen=True)
class Bidirectional(_Predicate):
    """Every key."""

    def holds(self, queries: Places, keys: Places) -> jax.Array:
        return _distance(queries, keys) == _distance(queries, keys)


@dataclasses.dataclass(frozen=True)
class BlockCausal(_Predicate):
    """Keys of the query's block and of earlier ones.

    A prefix-LM (T5, 1910.10683, 3.2.1) gives the prefix one block id and every later token its own.
    Without block ids in the batch it is causal.
    """

    def holds(self, queries: Places, keys: Places) -> jax.Array:
        return queries.block_ids[:, :, None] >= keys.block_ids[:, None, :]


@dataclasses.dataclass(frozen=True)
class Window(_Predicate):
    """Keys less than `size` positions behind the query, itself among them (Mistral, 2310.06825)."""

    size: int

    def __post_init__(self):
        _check_positive("window.size", self.size)

    def holds(self, queries: Places, keys: Places) -> jax.Array:
        return _distance(queries, keys) < self.size


@dataclasses.dataclass(frozen=True)
class Banded(_Predicate):
    """Keys at most `width` positions away on either side (Longformer, 2004.05150)."""

    width: int

    def __post_init__(self):
        _check_positive("banded.width", self.width)

    def holds(self, queries: Places, keys: Places) -> jax.Array:
        return jnp.abs(_distance(queries, keys)) <= self.width


@dataclasses.dataclass(frozen=True)
class Chunked(_Predicate):
    """Keys of the query's own chunk of `size` positions."""

    size: int

    def __post_init__(self):
        _check_positive("chunked.size", self.size)

    def holds(self, queries: Places, keys: Places) -> jax.Array:
        chunk = queries.positions // self.size
        return chunk[:, :, None] == (keys.positions // self.size)[:, None, :]


@dataclasses.dataclass(frozen=True)
class Either(_Predicate):
    """Keys for which one of the predicates holds."""

    predicates: tuple[Predicate, ...]

    @property
    def looks_ahead(self) -> bool:
        return any(predicate.looks_ahead for predicate in self.predicates)

    def holds(self, queries: Places, keys: Places) -> jax.Array:
        seen = self.predicates[0].holds(queries, keys)
        for predicate in self.predicates[1:]:
            seen |= predicate.holds(queries, keys)
        return seen


Predicate = Causal | Bidirectional | BlockCausal | Window | Banded | Chunked | Either


def visible(predicates: tuple[Predicate, ...], queries: Places, keys: Places) -> jax.Array:
    """[batch, queries, keys] bool: keys of the same segment for which every predicate holds."""
    seen = queries.segment_ids[:, :, None] == keys.segment_ids[:, None, :]
    for predicate in predicates:
        seen &= predicate.holds(queries, keys)
    return seen


def looks_ahead(predicates: tuple[Predicate, ...]) -> bool:
    """Whether a query may see a later key."""
    return all(predicate.looks_ahead for predicate in predicates)


def _distance(queries: Places, keys: Places) -> jax.Array:
    return queries.positions[:, :, None] - keys.positions[:, None, :]


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{name}={value} must be positive.")
