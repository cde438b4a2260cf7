"""Attention masks: a small algebra of predicates, evaluated for any block of queries and keys.

A predicate is frozen data and a function of two sides. A layer holds a tuple of them, all of which
must allow a key; `|` allows what either does. That a query attends to its own segment alone is
always so. Nothing of [queries, keys] exists until an implementation of attention asks for a block.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxgen.domains import PositiveInt, check_domains


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttentionSide:
    """One side of a mask, the queries or the keys; every field is [batch, length] int32.

    Attributes:
      positions: counted in each segment.
      segment_ids: 0 is padding, which attends to padding alone, so that no softmax is empty.
      block_ids: of tokens that attend to one another whatever their order; see `BlockCausal`.
    """

    positions: Any
    segment_ids: Any
    block_ids: Any

    def __getitem__(self, part: slice) -> AttentionSide:
        """Returns the tokens of a part of the length."""
        return self if part == slice(None) else jax.tree.map(lambda x: x[:, part], self)


def attention_side(
    positions: jax.Array, segment_ids: jax.Array, block_ids: jax.Array | None = None
) -> AttentionSide:
    """Returns a side; without block ids each token is its own block."""
    return AttentionSide(positions, segment_ids, positions if block_ids is None else block_ids)


class Predicate(Protocol):
    """A predicate allows some pairs of a query and a key; any hashable object of this form is one.

    Example (every second key):

        @dataclasses.dataclass(frozen=True)
        class Strided:
            looks_ahead = True

            def allows(self, queries, keys):
                return (queries.positions[:, :, None] - keys.positions[:, None, :]) % 2 == 0

    Attributes:
      looks_ahead: whether it may allow a key after the query.
    """

    @property
    def looks_ahead(self) -> bool: ...

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        """Returns [batch, queries, keys] bool."""
        ...


class _Composable:
    """A predicate that `|` joins to another."""

    looks_ahead = True

    def __or__(self, other: Predicate) -> Either:
        return Either((self, other))  # pyright: ignore[reportArgumentType]


@dataclasses.dataclass(frozen=True)
class Causal(_Composable):
    """Keys up to the query's own position."""

    looks_ahead = False

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        return _distance(queries, keys) >= 0


@dataclasses.dataclass(frozen=True)
class Bidirectional(_Composable):
    """Every key."""

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        return _distance(queries, keys) == _distance(queries, keys)


@dataclasses.dataclass(frozen=True)
class BlockCausal(_Composable):
    """Keys of the query's block and of earlier ones.

    A prefix-LM (T5, 1910.10683, 3.2.1) gives the prefix one block id and every later token its own.
    Without block ids in the batch it is causal.
    """

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        return queries.block_ids[:, :, None] >= keys.block_ids[:, None, :]


@dataclasses.dataclass(frozen=True)
class Window(_Composable):
    """Keys less than `size` positions behind the query, itself among them (Mistral, 2310.06825)."""

    size: PositiveInt

    def __post_init__(self):
        check_domains(self, "window")

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        return _distance(queries, keys) < self.size


@dataclasses.dataclass(frozen=True)
class Banded(_Composable):
    """Keys at most `width` positions away on either side (Longformer, 2004.05150)."""

    width: PositiveInt

    def __post_init__(self):
        check_domains(self, "banded")

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        return jnp.abs(_distance(queries, keys)) <= self.width


@dataclasses.dataclass(frozen=True)
class Chunked(_Composable):
    """Keys of the query's own chunk of `size` positions."""

    size: PositiveInt

    def __post_init__(self):
        check_domains(self, "chunked")

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        chunk = queries.positions // self.size
        return chunk[:, :, None] == (keys.positions // self.size)[:, None, :]


@dataclasses.dataclass(frozen=True)
class Either(_Composable):
    """Keys that one of the predicates allows."""

    predicates: tuple[Predicate, ...]

    @property
    def looks_ahead(self) -> bool:
        return any(predicate.looks_ahead for predicate in self.predicates)

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        allowed = self.predicates[0].allows(queries, keys)
        for predicate in self.predicates[1:]:
            allowed |= predicate.allows(queries, keys)
        return allowed


@dataclasses.dataclass(frozen=True)
class AttentionMask:
    """The keys that each query attends to, not yet evaluated.

    Attributes:
      predicates: must all allow a key, beside its being of the query's segment.
      queries: of the tokens that attend.
      keys: of the tokens attended to.
      same_tokens: whether queries and keys are the same tokens in the same order, whole on every
        device.
    """

    predicates: tuple[Predicate, ...]
    queries: AttentionSide
    keys: AttentionSide
    same_tokens: bool = False

    @property
    def in_order(self) -> bool:
        """Whether no query attends to a key that lies after it in the row."""
        return self.same_tokens and not looks_ahead(self.predicates)

    def dense(self, queries: slice = slice(None), keys: slice = slice(None)) -> jax.Array:
        """Returns the block of these queries and keys, [batch, queries, keys] bool."""
        queried, attended = self.queries[queries], self.keys[keys]
        allowed = queried.segment_ids[:, :, None] == attended.segment_ids[:, None, :]
        for predicate in self.predicates:
            allowed &= predicate.allows(queried, attended)
        return allowed


def looks_ahead(predicates: tuple[Predicate, ...]) -> bool:
    """Returns whether a query may attend to a later key."""
    return all(predicate.looks_ahead for predicate in predicates)


def _distance(queries: AttentionSide, keys: AttentionSide) -> jax.Array:
    return queries.positions[:, :, None] - keys.positions[:, None, :]
