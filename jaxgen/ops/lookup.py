"""Rows of a table that may be split over the mesh."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.rules import MeshAxes, Rules, mesh_is_set


def lookup(table: jax.Array, ids: jax.Array, rules: Rules, split_over: MeshAxes) -> jax.Array:
    """Rows of a table that may be split over a mesh axis by rows.

    Each shard looks up the ids it holds and the others' rows come in by a sum (Megatron-LM,
    1909.08053, 3), so that no device gathers the table.

    Args:
      table: [rows, embed].
      ids: [batch, length] int32.
      rules: gives the layout of `ids`.
      split_over: the mesh axes over which the rows are split, or None.

    Returns:
      [batch, length, embed].
    """
    axes = axis_names(split_over)
    if not mesh_is_set():
        return table[ids]

    def local(shard, ids):
        first = jax.lax.axis_index(axes) * shard.shape[0] if axes else 0
        local_ids = ids - first
        held = (local_ids >= 0) & (local_ids < shard.shape[0])
        rows = jnp.where(held[..., None], shard[jnp.where(held, local_ids, 0)], 0)
        return jax.lax.psum(rows, axes) if axes else rows

    tokens_layout = rules.activation("batch", "length")
    return jax.shard_map(
        local,
        in_specs=(jax.P(split_over, None), tokens_layout),
        out_specs=rules.activation("batch", "length", None),
    )(table, ids)
