"""The key-value cache of decoding: an argument and a result of the model, never hidden state."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.models.config import TransformerConfig
from jaxgen.sharding.rules import Rules, mesh_is_set


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """Keys and values already computed; the slot of a token is its position.

    Attributes:
      keys: one array for each block of the repeating unit,
        [units, batch, kv_heads, capacity, head_dim].
      values: like `keys`.
      filled: [batch, capacity] bool, which slots hold a token.
    """

    keys: tuple[Any, ...]
    values: tuple[Any, ...]
    filled: Any

    @property
    def capacity(self) -> int:
        """How many positions fit."""
        return self.filled.shape[1]


def empty_cache(config: TransformerConfig, batch_size: int, capacity: int, rules: Rules) -> Cache:
    """A cache without tokens for `batch_size` sequences of up to `capacity` positions."""
    shape = (config.num_units, batch_size, config.kv_heads, capacity, config.width_of_head)

    def zeros(shape, dtype, *logical_axes):
        sharding = rules.activation(*logical_axes) if mesh_is_set() else None
        return jnp.zeros(shape, dtype, out_sharding=sharding)

    def block():
        axes = ("layers", "batch", "kv_heads", None, None)
        return zeros(shape, config.compute_dtype, *axes)

    return Cache(
        keys=tuple(block() for _ in config.unit),
        values=tuple(block() for _ in config.unit),
        filled=zeros((batch_size, capacity), bool, "batch", None),
    )


def write(cached: jax.Array, new: jax.Array, slots: jax.Array) -> jax.Array:
    """Puts new keys or values into their slots.

    Args:
      cached: [batch, kv_heads, capacity, head_dim].
      new: [batch, kv_heads, length, head_dim].
      slots: [batch, length] int32; a slot at or past the capacity is dropped.

    Returns:
      Like `cached`.
    """

    def one_sequence(cached_row, new_row, slot_row):
        return cached_row.at[:, slot_row].set(new_row, mode="drop")

    return jax.vmap(one_sequence)(cached, new, slots)
