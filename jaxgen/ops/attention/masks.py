"""Attention masks: a small algebra of predicates, evaluated for any block of queries and keys.

A predicate is frozen data and a function of two sides. A layer holds a tuple of them, all of which
must allow a key; `|` allows what either does. That a query attends to its own segment alone is
always so. Nothing of [queries, keys] exists until an implementation of attention asks for a block.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jaxgen.domains import PositiveInt, check_domains


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttentionSide:
    """One side of a mask, the queries or the keys; every field is [batch, length, ...] int32.

    Attributes:
      positions: counted in each segment.
      segment_ids: 0 is padding, which attends to padding alone, so that no softmax is empty.
      block_ids: of tokens that attend to one another whatever their order; see `BlockCausal`.
      cells: [batch, length, 4], modality, time, row and column, see `Batch.places`; None where no
        predicate reads them, or all is text.
    """

    positions: Any
    segment_ids: Any
    block_ids: Any
    cells: Any = None

    def __getitem__(self, part: slice) -> AttentionSide:
        """Returns the tokens of a part of the length."""
        return self if part == slice(None) else jax.tree.map(lambda x: x[:, part], self)


def attention_side(
    positions: jax.Array,
    segment_ids: jax.Array,
    block_ids: jax.Array | None = None,
    cells: jax.Array | None = None,
) -> AttentionSide:
    """Returns a side; without block ids each token is its own block."""
    blocks = positions if block_ids is None else block_ids
    return AttentionSide(positions, segment_ids, blocks, cells)


class Predicate(Protocol):
    """A predicate allows some pairs of a query and a key; any hashable object of this form is one.

    Example (every second key):

        @dataclasses.dataclass(frozen=True)
        class Strided:
            looks_ahead = True

            def allows(self, queries, keys):
                return (queries.positions[:, :, None] - keys.positions[:, None, :]) % 2 == 0

    One that asks where codes lie in their pictures has an attribute `reads_cells = True`.

    Attributes:
      looks_ahead: whether it may allow a key after the query.
    """

    @property
    def looks_ahead(self) -> bool: ...

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        """Returns [batch, queries, keys] bool."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """A predicate that says which distances it rules out, so that no work is done for those."""

    def may_allow(self, behind: Any) -> Any:
        """Returns, for each of an array of distances, whether some key there may be allowed.

        Args:
          behind: how many places of a row a key lies behind its query, below 0 after it. Inside a
            segment the places are as far apart as the positions.
        """
        ...


@runtime_checkable
class Grouped(Protocol):
    """A predicate that allows the keys of a query's own group of tokens, and no other."""

    def groups(self, side: AttentionSide) -> Any:
        """Returns the group of each token, [batch, length] int32, from 0 to the length."""
        ...


class Composable:
    """A predicate that `|` joins to another."""

    looks_ahead = True

    def __or__(self, other: Predicate) -> Either:
        return Either((self, other))  # pyright: ignore[reportArgumentType]


class DistancePredicate(Composable):
    """A predicate of the distance from query to key alone: what it may allow, it allows."""

    def may_allow(self, behind: Any) -> Any:
        """Returns bool of the shape of `behind`; by operators alone, of whatever array that is."""
        raise NotImplementedError

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        return self.may_allow(_distance(queries, keys))


@dataclasses.dataclass(frozen=True)
class Causal(DistancePredicate):
    """Keys up to the query's own position."""

    looks_ahead = False

    def may_allow(self, behind: Any) -> Any:
        return behind >= 0


@dataclasses.dataclass(frozen=True)
class Bidirectional(DistancePredicate):
    """Every key."""

    def may_allow(self, behind: Any) -> Any:
        return behind == behind


@dataclasses.dataclass(frozen=True)
class BlockCausal(Composable):
    """Keys of the query's block and of earlier ones.

    A prefix-LM (T5, 1910.10683, 3.2.1) gives the prefix one block id and every later token its own.
    Without block ids in the batch it is causal.
    """

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        return queries.block_ids[:, :, None] >= keys.block_ids[:, None, :]


@dataclasses.dataclass(frozen=True)
class Window(DistancePredicate):
    """Keys less than `size` positions behind the query, itself among them (Mistral, 2310.06825)."""

    size: PositiveInt

    def __post_init__(self):
        check_domains(self, "window")

    def may_allow(self, behind: Any) -> Any:
        return behind < self.size


@dataclasses.dataclass(frozen=True)
class Banded(DistancePredicate):
    """Keys at most `width` positions away on either side (Longformer, 2004.05150)."""

    width: PositiveInt

    def __post_init__(self):
        check_domains(self, "banded")

    def may_allow(self, behind: Any) -> Any:
        return abs(behind) <= self.width


@dataclasses.dataclass(frozen=True)
class Chunked(Composable):
    """Keys of the query's own chunk of `size` positions."""

    size: PositiveInt

    def __post_init__(self):
        check_domains(self, "chunked")

    def may_allow(self, behind: Any) -> Any:
        return abs(behind) < self.size

    def groups(self, side: AttentionSide) -> Any:
        return side.positions // self.size

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        return self.groups(queries)[:, :, None] == self.groups(keys)[:, None, :]


@dataclasses.dataclass(frozen=True)
class Either(Composable):
    """Keys that one of the predicates allows."""

    predicates: tuple[Predicate, ...]

    @property
    def looks_ahead(self) -> bool:
        return any(predicate.looks_ahead for predicate in self.predicates)

    @property
    def reads_cells(self) -> bool:
        return reads_cells(self.predicates)

    def may_allow(self, behind: Any) -> Any:
        allowed = may_allow(self.predicates[:1], behind)
        for predicate in self.predicates[1:]:
            allowed = allowed | may_allow((predicate,), behind)
        return allowed

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        allowed = self.predicates[0].allows(queries, keys)
        for predicate in self.predicates[1:]:
            allowed |= predicate.allows(queries, keys)
        return allowed


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("queries", "keys"),
    meta_fields=("predicates", "same_tokens"),
)
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

    def may_allow(self, behind: np.ndarray) -> np.ndarray:
        """Returns whether a key so many places behind its query may be attended to.

        Any may where queries and keys are not the same tokens.
        """
        return may_allow(self.predicates if self.same_tokens else (), behind)

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


def reads_cells(predicates: tuple[Predicate, ...]) -> bool:
    """Returns whether one of the predicates asks where codes lie in their pictures."""
    return any(getattr(predicate, "reads_cells", False) for predicate in predicates)


def may_allow(predicates: tuple[Predicate, ...], behind: Any) -> Any:
    """Returns whether all predicates may allow a key so many places behind its query."""
    allowed = behind == behind
    for predicate in predicates:
        if isinstance(predicate, Bounded):
            allowed = allowed & predicate.may_allow(behind)
    return allowed


def is_by_distance(predicate: Predicate) -> bool:
    """Returns whether a predicate depends on nothing but the distance from query to key."""
    if isinstance(predicate, Either):
        return all(is_by_distance(part) for part in predicate.predicates)
    return isinstance(predicate, DistancePredicate)


def _distance(queries: AttentionSide, keys: AttentionSide) -> jax.Array:
    return queries.positions[:, :, None] - keys.positions[:, None, :]
