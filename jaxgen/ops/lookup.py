"""Rows of a table that may be split over the mesh."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.layout import current_layout, spec
from jaxgen.sharding.rules import mesh_is_set, varying


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
        return _rows(table, ids)
    split_over = current_layout().rules.mesh_axes(axis)
    axes = axis_names(split_over)
    tokens_layout = spec("batch", "length")

    def local(shard, ids):
        first = jax.lax.axis_index(axes) * shard.shape[0] if axes else 0
        local_ids = ids - first
        held = (local_ids >= 0) & (local_ids < shard.shape[0])
        shard = varying(shard, axis_names(tokens_layout[0]) + axis_names(tokens_layout[1]))
        rows = jnp.where(held[..., None], _rows(shard, jnp.where(held, local_ids, 0)), 0)
        return jax.lax.psum(rows, axes) if axes else rows

    return jax.shard_map(
        local,
        in_specs=(jax.P(split_over, None), tokens_layout),
        out_specs=spec("batch", "length", None),
    )(table, ids)


@jax.custom_vjp
def _rows(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Returns rows whose gradients are summed in float32, whatever the table is.

    A frequent token has thousands of them in a batch, and 256 ones are all that a sum of ones in
    bfloat16 comes to.
    """
    return table[ids]


def _forward(table, ids):
    return table[ids], (table, ids)


def _backward(saved, gradient):
    table, ids = saved
    start = jnp.zeros_like(table, jnp.float32)
    return start.at[ids].add(gradient.astype(jnp.float32)).astype(table.dtype), None


_rows.defvjp(_forward, _backward)
