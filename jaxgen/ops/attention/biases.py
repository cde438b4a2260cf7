"""Biases on attention's logits that depend on the distance from a query to a key."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Annotated, Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.domains import Domain, PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import free_axes, mesh_is_set, reshard


class PositionBias(Protocol):
    """A bias by distance; any hashable object of this form is one.

    Attributes:
      num_rows: rows of the learned table [rows, heads]; 0: nothing is learned.
      per_layer: whether every layer learns its own table, or one serves its whole stack.
    """

    @property
    def num_rows(self) -> int: ...

    @property
    def per_layer(self) -> bool: ...

    def logits(
        self, distances: jax.Array, num_heads: int, table: jax.Array | None, both_ways: bool
    ) -> jax.Array:
        """Returns what is added to the logits.

        Args:
          distances: [1 or batch, queries, keys] int32, key position minus query position.
          num_heads: of the queries.
          table: [rows, heads] float32, or None where nothing is learned.
          both_ways: whether later keys may be attended to.

        Returns:
          [1 or batch, heads, queries, keys] float32.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Alibi:
    """Logits fall off linearly with distance, at each head's own slope (2108.12409).

    Attributes:
      factor: on all slopes; of Falcon-RW, whose biases are scaled as its logits, head_dim^-0.5.
    """

    factor: PositiveFloat = 1.0

    def __post_init__(self):
        check_domains(self, "alibi")

    @property
    def num_rows(self) -> int:
        """Nothing is learned."""
        return 0

    @property
    def per_layer(self) -> bool:
        """There is nothing to learn."""
        return False

    def slopes(self, num_heads: int) -> np.ndarray:
        """Returns [num_heads] float32; of other than powers of two as the authors' code."""
        closest = 2 ** math.floor(math.log2(num_heads))
        slopes = 2.0 ** (-8 / closest * np.arange(1, closest + 1))
        between = 2.0 ** (-4 / closest * np.arange(1, 2 * (num_heads - closest), 2))
        return (self.factor * np.concatenate([slopes, between])).astype(np.float32)

    def logits(self, distances, num_heads, table, both_ways) -> jax.Array:
        del table, both_ways
        slopes = reshard(jnp.asarray(self.slopes(num_heads)), spec("heads"))
        return slopes[None, :, None, None] * -jnp.abs(distances).astype(jnp.float32)[:, None]


@dataclasses.dataclass(frozen=True)
class RelativeBias:
    """A learned bias of each head for each bucket of distances (T5, 1910.10683, 2.1).

    Attributes:
      num_buckets: half of them for single distances, the others growing up to `max_distance`;
        where later keys are attended to they take half of the buckets.
      max_distance: from which on all distances share a bucket.
      per_layer: whether every layer learns its own, or the first one's serves its whole stack.
    """

    num_buckets: Annotated[int, Domain(4)] = 32
    max_distance: PositiveInt = 128
    per_layer: bool = False

    def __post_init__(self):
        check_domains(self, "relative_bias")
        if self.max_distance <= self.num_buckets // 2:
            raise ConfigError(
                f"relative_bias.max_distance={self.max_distance} must exceed half of "
                f"relative_bias.num_buckets={self.num_buckets}, which are for single distances."
            )

    @property
    def num_rows(self) -> int:
        return self.num_buckets

    def logits(self, distances, num_heads, table, both_ways) -> jax.Array:
        del num_heads
        buckets = self.buckets(distances, both_ways)
        if not mesh_is_set():
            return table[buckets].transpose(0, 3, 1, 2)
        rows, heads = jax.typeof(buckets).sharding.spec, spec("heads")
        look_up = jax.shard_map(
            lambda table, buckets: table[buckets],
            in_specs=(jax.P(None, *heads), rows),
            out_specs=jax.P(*rows, *heads),
            axis_names=free_axes(),
            check_vma=False,
        )
        return look_up(table, buckets).transpose(0, 3, 1, 2)

    def buckets(self, distances: jax.Array, both_ways: bool) -> jax.Array:
        """Maps key position minus query position to int32 buckets of the same shape."""
        count, first = self.num_buckets, 0
        if both_ways:
            count //= 2
            first = (distances > 0).astype(jnp.int32) * count
            distances = jnp.abs(distances)
        else:
            distances = jnp.maximum(-distances, 0)
        exact = count // 2
        ratio = jnp.maximum(distances, 1).astype(jnp.float32) / exact
        growth = jnp.log(ratio) / math.log(self.max_distance / exact) * (count - exact)
        far = jnp.minimum(exact + growth.astype(jnp.int32), count - 1)
        return first + jnp.where(distances < exact, distances, far)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("queries", "keys", "table"),
    meta_fields=("kind", "num_heads", "both_ways", "consecutive"),
)
@dataclasses.dataclass(frozen=True)
class AttentionBias:
    """The biases of one attention, not yet evaluated.

    Attributes:
      kind: what makes them of distances.
      num_heads: of the queries.
      both_ways: whether later keys may be attended to in the stack.
      queries: [1 or batch, queries] int32 positions.
      keys: [1 or batch, keys] int32 positions.
      consecutive: whether both are the places of a row, 0, 1, 2 ..., whole on every device; inside
        a segment these are as far apart as the positions.
      table: [rows, heads] float32, or None where nothing is learned.
    """

    kind: PositionBias
    num_heads: int
    both_ways: bool
    queries: Any
    keys: Any
    consecutive: bool
    table: Any = None

    def dense(self, queries: slice = slice(None), keys: slice = slice(None)) -> jax.Array:
        """Returns the block of these queries and keys, [1 or batch, heads, queries, keys]."""
        if not self.consecutive:
            return self._of(self.keys[:, None, keys] - self.queries[:, queries, None])
        rows = range(*queries.indices(self.queries.shape[1]))
        columns = range(*keys.indices(self.keys.shape[1]))
        # Each distance once, then laid along the diagonals, in gradients too.
        distances = jnp.arange(columns[0] - rows[-1], columns[-1] - rows[0] + 1, dtype=jnp.int32)
        return toeplitz(self._of(distances[None, None])[:, :, 0], len(rows))

    def by_distance(self, count: int) -> jax.Array:
        """Returns [heads, 2 * count - 1], for distances from -(count - 1) to count - 1."""
        distances = jnp.arange(1 - count, count, dtype=jnp.int32)
        return self._of(distances[None, None])[0, :, 0]

    def _of(self, distances: jax.Array) -> jax.Array:
        return self.kind.logits(distances, self.num_heads, self.table, self.both_ways)


def toeplitz(values: jax.Array, rows: int) -> jax.Array:
    """Maps [..., n] to [..., rows, n - rows + 1]: row i begins at value rows - 1 - i."""
    n = values.shape[-1]
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, 1)])
    tiled = jnp.broadcast_to(padded[..., None, :], (*values.shape[:-1], rows, n + 1))
    flat = tiled.reshape(*values.shape[:-1], rows * (n + 1))[..., : rows * n]
    return flat.reshape(*values.shape[:-1], rows, n)[..., rows - 1 :]
