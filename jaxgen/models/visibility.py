"""Which positions may attend to which: predicates over queries and keys, composed once a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def packed_causal(
    positions: jax.Array,
    segment_ids: jax.Array,
    key_positions: jax.Array,
    key_segment_ids: jax.Array,
) -> jax.Array:
    """Causal attention inside each segment of packed rows.

    Args:
      positions: [batch, queries] int32, counted in each segment.
      segment_ids: [batch, queries] int32.
      key_positions: [batch, keys] int32.
      key_segment_ids: [batch, keys] int32.

    Returns:
      [batch, queries, keys] bool. Padding attends to padding, so that every row of the softmax
      has something to look at; its loss weight is 0.
    """
    same_segment = segment_ids[:, :, None] == key_segment_ids[:, None, :]
    return same_segment & (positions[:, :, None] >= key_positions[:, None, :])


def cached_causal(positions: jax.Array, filled: jax.Array) -> jax.Array:
    """Causal attention to the filled slots of a cache, where a slot is a position.

    Args:
      positions: [batch, queries] int32.
      filled: [batch, capacity] bool, the new tokens' own slots included.

    Returns:
      [batch, queries, capacity] bool.
    """
    slots = jnp.arange(filled.shape[1])
    return filled[:, None, :] & (positions[:, :, None] >= slots)
