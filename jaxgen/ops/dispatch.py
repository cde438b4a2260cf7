"""Dispatch moves tokens to the rows of their experts and back, by gathers in both directions.

The gradient of a gather is a scatter-add, which is slow on most hardware. Here both directions'
indices are known, so the gradient of each gather is written as the other one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.ops.grouped_matmul import RowBlocks, make_row_blocks


class Dispatch(NamedTuple):
    """A dispatch tells which token is in which row.

    Attributes:
      blocks: of the rows.
      row_of: [tokens, experts_per_token] int32, the row of each assignment; past the last row for
        those whose expert is not here.
      assignment_of: [rows] int32, the assignment (token * experts_per_token + choice) in each row;
        past the last assignment for padding.
    """

    blocks: RowBlocks
    row_of: Any
    assignment_of: Any


def make_dispatch(
    experts: jax.Array,
    first_expert: jax.Array | int,
    num_experts: int,
    block_rows: int,
    max_assignments: int | None = None,
) -> Dispatch:
    """Sorts assignments by expert into blocks.

    Args:
      experts: [tokens, experts_per_token] int32.
      first_expert: the first of the experts that are here.
      num_experts: how many are here; assignments to others are left out.
      block_rows: rows of a block.
      max_assignments: a bound on those to any expert; None: all.
    """
    local = experts.reshape(-1) - first_expert
    local = jnp.where((local >= 0) & (local < num_experts), local, num_experts)
    num_assignments = local.shape[0]
    counts = jnp.sum(local[:, None] == jnp.arange(num_experts), axis=0, dtype=jnp.int32)
    blocks = make_row_blocks(counts, max_assignments or num_assignments, block_rows)
    num_rows = blocks.block_groups.shape[0] * block_rows
    order = jnp.argsort(local, stable=True)
    sorted_experts = local[order]
    first_sorted = jnp.concatenate([jnp.cumsum(counts) - counts, jnp.zeros(1, jnp.int32)])
    first_row = jnp.cumsum(blocks.group_rows) - blocks.group_rows
    first_row = jnp.concatenate([first_row, jnp.full(1, num_rows, first_row.dtype)])
    rank = jnp.arange(num_assignments) - first_sorted[sorted_experts]
    rows = jnp.where(sorted_experts < num_experts, first_row[sorted_experts] + rank, num_rows)
    row_of = jnp.zeros(num_assignments, jnp.int32).at[order].set(rows.astype(jnp.int32))
    assignment_of = jnp.full(num_rows, num_assignments, jnp.int32)
    assignment_of = assignment_of.at[rows].set(order.astype(jnp.int32), mode="drop")
    return Dispatch(blocks, row_of.reshape(experts.shape), assignment_of)


def to_rows(x: jax.Array, dispatch: Dispatch) -> jax.Array:
    """Maps [tokens, width] to [rows, width]: each row its token, zeros for padding."""
    choices = dispatch.row_of.shape[1]
    return gather_rows(x, dispatch.assignment_of // choices, dispatch.row_of)


def weighted_rows(x: jax.Array, weights: jax.Array, dispatch: Dispatch) -> jax.Array:
    """Returns `to_rows`, each row times the weight [tokens, choices] of its assignment."""
    of_assignment = gather_rows(
        weights.reshape(-1, 1), dispatch.assignment_of, dispatch.row_of.reshape(-1, 1)
    )
    return to_rows(x, dispatch) * of_assignment.astype(x.dtype)


def from_rows(rows: jax.Array, weights: jax.Array, dispatch: Dispatch) -> jax.Array:
    """Maps [rows, width] and weights [tokens, choices] to [tokens, width], the weighted sums."""
    tokens, choices = dispatch.row_of.shape
    picked = gather_rows(rows, dispatch.row_of.reshape(-1), dispatch.assignment_of[:, None])
    picked = picked.reshape(tokens, choices, -1)
    return jnp.sum(picked * weights[..., None].astype(rows.dtype), axis=1)


@jax.custom_vjp
def gather_rows(x: jax.Array, index: jax.Array, inverse: jax.Array) -> jax.Array:
    """Returns `x[index]`, zeros where the index is past the end.

    Args:
      x: [n, width].
      index: [m] int32.
      inverse: [n, k] int32: the positions in `index` that name each row of `x`; past the end of
        `index` where there are fewer than k.

    Returns:
      [m, width].
    """
    del inverse
    return x.at[index].get(mode="fill", fill_value=0)


def _forward(x, index, inverse):
    return gather_rows(x, index, inverse), inverse


def _backward(inverse, gradient):
    parts = (gradient.at[column].get(mode="fill", fill_value=0) for column in inverse.T)
    return sum(parts), None, None


gather_rows.defvjp(_forward, _backward)
