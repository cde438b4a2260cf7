"""The key-value cache of decoding: an argument and a result of the model, never hidden state."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.batch import Batch
from jaxgen.models.stack_config import Group, StackConfig
from jaxgen.ops.attention.masks import AttentionSide
from jaxgen.ops.slots import mark
from jaxgen.sharding.layout import Layout, spec
from jaxgen.sharding.rules import mesh_is_set, reshard

KeyValue = tuple[Any, Any]
"""Keys and values, [batch, kv_heads, capacity, head_dim]; of latent attention, its latents and
rotary keys, [batch, 1, capacity, ...]."""

KeyValues = tuple[tuple[KeyValue, ...], ...]
"""The keys and values of a stack: of each group, of each block of its unit, [repeats, ...]."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """A KV cache of earlier tokens; the slot of a token is its position.

    Attributes:
      key_values: of self-attention.
      filled: [batch, capacity] bool, which slots hold a token.
      block_ids: [batch, capacity] int32, as in a batch.
      cross: keys and values of an encoder's output, once it has run.
      encoder_segment_ids: [batch, encoder length] int32, of the encoder's input.
      cells: [batch, capacity, 4] int32, of masks that read them, see `AttentionSide`; or None.
    """

    key_values: KeyValues
    filled: Any
    block_ids: Any
    cross: KeyValues | None = None
    encoder_segment_ids: Any = None
    cells: Any = None

    @property
    def capacity(self) -> int:
        """The number of positions that fit."""
        return self.filled.shape[1]


def empty_cache(config: StackConfig, batch_size: int, capacity: int, layout: Layout) -> Cache:
    """Returns a cache without tokens for `batch_size` sequences of up to `capacity` positions."""

    def zeros(shape, dtype, *logical_axes):
        sharding = layout.rules.activation(*logical_axes) if mesh_is_set() else None
        return jnp.zeros(shape, dtype, out_sharding=sharding)

    def key_value(group: Group) -> KeyValue:
        heads, widths, axis = config.kv_heads, (config.width_of_head,) * 2, config.kv_axis
        if config.latent is not None:
            heads, widths, axis = 1, (config.latent.kv_rank, config.latent.rope_dim), None
        shape, axes = (group.repeats, batch_size, heads, capacity), (None, "batch", axis, None)
        key, value = (zeros((*shape, w), config.compute_dtype, *axes, None) for w in widths)
        return key, value

    return Cache(
        key_values=tuple(tuple(key_value(group) for _ in group.unit) for group in config.groups),
        filled=zeros((batch_size, capacity), bool, "batch", None),
        block_ids=zeros((batch_size, capacity), jnp.int32, "batch", None),
        cells=(
            zeros((batch_size, capacity, 4), jnp.int32, "batch", None, None)
            if config.reads_cells
            else None
        ),
    )


def with_new_tokens(
    cache: Cache, batch: Batch, queries: AttentionSide
) -> tuple[Cache, AttentionSide, AttentionSide, jax.Array]:
    """Returns a cache that has the slots of a batch's tokens, and how attention sees both.

    Args:
      cache: of earlier tokens.
      batch: the new ones; those of segment 0 (padding) get no slot.
      queries: their side of attention.

    Returns:
      The cache, its keys and values not yet written; the queries' side; the keys', which is all
      slots; and the slot of each token, [batch, length].
    """
    whole = spec("batch", None)
    slots = jnp.where(batch.segment_ids > 0, batch.positions, cache.capacity)
    slots = reshard(slots, whole)
    filled = mark(cache.filled, slots >= 0, slots)
    blocks = mark(cache.block_ids, reshard(queries.block_ids, whole), slots)
    cells = cache.cells
    if queries.cells is not None:
        cells = mark(cells, reshard(queries.cells, whole), slots)
    cache = dataclasses.replace(cache, filled=filled, block_ids=blocks, cells=cells)
    # In a cache all tokens are of one segment, whatever its number.
    queries = dataclasses.replace(queries, segment_ids=jnp.minimum(queries.segment_ids, 1))
    positions = jnp.broadcast_to(jnp.arange(cache.capacity), filled.shape)
    positions, segments = reshard(positions, whole), jnp.where(filled, 1, -1)
    return cache, queries, AttentionSide(positions, segments, blocks, cells), slots
