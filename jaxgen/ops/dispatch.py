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
      row_of: [tokens, experts_per_token] int32, the row of each assignment; past the last row for
        those that have none here.
      assignment_of: [rows] int32, the assignment (token * experts_per_token + choice) in each row;
        past the last assignment for padding.
    """

    row_of: Any
    assignment_of: Any


def make_dispatch(
    experts: jax.Array,
    first_expert: jax.Array | int,
    num_experts: int,
    block_rows: int,
    max_assignments: int | None = None,
) -> tuple[Dispatch, RowBlocks]:
    """Sorts assignments by expert into blocks of rows.

    Args:
      experts: [tokens, experts_per_token] int32.
      first_expert: the first of the experts that are here.
      num_experts: how many are here; assignments to others are left out.
      block_rows: rows of a block.
      max_assignments: a bound on those to any expert; None: all.
    """
    local = experts - first_expert
    local = jnp.where((local >= 0) & (local < num_experts), local, num_experts)
    ranks, counts = count_ranks(local, num_experts)
    blocks = make_row_blocks(counts, max_assignments or local.size, block_rows)
    num_rows = blocks.block_groups.shape[0] * block_rows
    first_row = jnp.cumsum(blocks.group_rows) - blocks.group_rows
    first_row = jnp.append(first_row, num_rows)
    is_here = local < num_experts
    dispatch = place(jnp.where(is_here, first_row[local] + ranks, num_rows), num_rows)
    return dispatch, blocks


def count_ranks(labels: jax.Array, num_labels: int) -> tuple[jax.Array, jax.Array]:
    """Returns how many entries before each one, in order, have its label, and each label's count.

    Args:
      labels: int32 of any shape; `num_labels` stands for none.
      num_labels: how many there are.

    Returns:
      int32 like `labels`, of no meaning where there is no label, and [num_labels] int32.
    """
    flat = labels.reshape(-1)
    counts = jnp.sum(flat[:, None] == jnp.arange(num_labels), axis=0, dtype=jnp.int32)
    order = jnp.argsort(flat, stable=True)
    first = jnp.append(jnp.cumsum(counts) - counts, 0)
    ranks = jnp.arange(flat.shape[0], dtype=jnp.int32) - first[flat[order]]
    ranks = jnp.zeros_like(flat).at[order].set(ranks, unique_indices=True)
    return ranks.reshape(labels.shape), counts


def place(row_of: jax.Array, num_rows: int) -> Dispatch:
    """Returns the dispatch of assignments to rows, each row of at most one assignment.

    Args:
      row_of: as in `Dispatch`.
      num_rows: how many rows there are.
    """
    row_of = row_of.astype(jnp.int32)
    assignments = jnp.arange(row_of.size, dtype=jnp.int32)
    assignment_of = jnp.full(num_rows, row_of.size, jnp.int32)
    assignment_of = assignment_of.at[row_of.reshape(-1)].set(assignments, mode="drop")
    return Dispatch(row_of, assignment_of)


def to_rows(x: jax.Array, dispatch: Dispatch) -> jax.Array:
    """Maps [tokens, width] to [rows, width]: each row its token, zeros for padding."""
    choices = dispatch.row_of.shape[1]
    return gather_rows(x, dispatch.assignment_of // choices, dispatch.row_of)


def pack_rows(
    x: jax.Array, weights: jax.Array, dispatch: Dispatch, weigh: str
) -> tuple[jax.Array, jax.Array]:
    """Returns `to_rows`, and the weights [tokens, choices] with which they come back.

    Args:
      x: [tokens, width].
      weights: [tokens, choices] of the assignments.
      dispatch: of the tokens.
      weigh: "output", or "input": the rows are multiplied now, and come back as they are.
    """
    rows = to_rows(x, dispatch)
    if weigh == "output":
        return rows, weights
    of_assignment = gather_rows(
        weights.reshape(-1, 1), dispatch.assignment_of, dispatch.row_of.reshape(-1, 1)
    )
    return rows * of_assignment.astype(x.dtype), jnp.ones_like(weights)


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
