"""Rows of a table that may be split over the mesh."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.layout import current_layout, spec
from jaxgen.sharding.rules import mesh_is_set


def lookup(table: jax.Array, ids: jax.Array, axis: str | None) -> jax.Array:
    """Rows of a table that may be split over a mesh axis by rows.

    Each shard looks up the ids it holds and the others' rows come in by a sum (Megatron-LM,
    1909.08053, 3), so that no device gathers the table.

    Args:
      table: [rows, embed].
      ids: [batch, length] int32.
      axis: the logical axis of the rows, or None where they are whole.

    Returns:
      [batch, length, embed].
    """
    if not mesh_is_set():
        return table[ids]
    split_over = current_layout().rules.mesh_axes(axis)
    axes = axis_names(split_over)

    def local(shard, ids):
        first = jax.lax.axis_index(axes) * shard.shape[0] if axes else 0
        local_ids = ids - first
        held = (local_ids >= 0) & (local_ids < shard.shape[0])
        rows = jnp.where(held[..., None], shard[jnp.where(held, local_ids, 0)], 0)
        return jax.lax.psum(rows, axes) if axes else rows

    tokens_layout = spec("batch", "length")
    return jax.shard_map(
        local,
        in_specs=(jax.P(split_over, None), tokens_layout),
        out_specs=spec("batch", "length", None),
    )(table, ids)
