"""The key-value cache of decoding: an argument and a result of the model, never hidden state."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.models.stack_config import Group, StackConfig
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.rules import mesh_is_set

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
