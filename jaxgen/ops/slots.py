"""Writing new entries into the slots of a cache."""

from __future__ import annotations

import jax


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


def write_both(
    cached: tuple[jax.Array, jax.Array], new: tuple[jax.Array, jax.Array], slots: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Puts new keys and new values into their slots; see `write`."""
    return write(cached[0], new[0], slots), write(cached[1], new[1], slots)


def mark(cached: jax.Array, new: jax.Array, slots: jax.Array) -> jax.Array:
    """Writes one value a slot, as `write` does: [batch, capacity] and [batch, length]."""
    return jax.vmap(lambda row, value, slot: row.at[slot].set(value, mode="drop"))(
        cached, new, slots
    )
