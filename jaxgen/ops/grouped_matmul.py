"""Matrix products of many groups of rows, each with its own matrix.

Rows lie in blocks of a fixed size, each block of one group, padded with zeros; groups follow one
another. On CPU the blocks that hold rows are worked through one by one, each with its group's
matrix: dropless, and no product is larger than it must be. On TPU and GPU Pallas kernels do that;
what they refuse is left to `jax.lax.ragged_dot`, which is also the reference for the tests.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.ops.grouped_kernels import Kernel, hopper_refusal, kernel_matmul
from jaxgen.sharding.rules import compiled_for

_LOGGER = logging.getLogger(__name__)

Implementation = Literal["blocks", "ragged_dot"] | Kernel
KERNELS = ("megablox", "hopper")
_BLOCKS_AT_ONCE = 4
"""What the number of blocks is a multiple of: a kernel can take so many as one part of the rows."""


class RowBlocks(NamedTuple):
    """Row blocks tell where the rows of a grouped product lie.

    Attributes:
      block_groups: [blocks] int32, the group of each block; blocks past the last are of any.
      num_blocks: scalar int32, how many blocks hold rows.
      group_rows: [groups] int32, rows of each group, the padding of its last block included.
    """

    block_groups: Any
    num_blocks: Any
    group_rows: Any


def make_row_blocks(group_sizes: jax.Array, max_rows: int, block_rows: int) -> RowBlocks:
    """Returns the blocks of groups of these sizes.

    Args:
      group_sizes: [groups] int32, rows of each group; they sum to at most `max_rows`.
      max_rows: a bound, known when the program is traced.
      block_rows: rows of a block.
    """
    groups = group_sizes.shape[0]
    max_blocks = -(-max_rows // block_rows) + groups
    max_blocks += -max_blocks % _BLOCKS_AT_ONCE
    blocks_of_group = -(-group_sizes // block_rows)
    ends = jnp.cumsum(blocks_of_group)
    block_groups = jnp.sum(jnp.arange(max_blocks)[:, None] >= ends, axis=1)
    return RowBlocks(
        block_groups=jnp.minimum(block_groups, groups - 1).astype(jnp.int32),
        num_blocks=ends[-1].astype(jnp.int32),
        group_rows=(blocks_of_group * block_rows).astype(jnp.int32),
    )


def default_implementation(widths: tuple[int, ...], dtype: Any) -> Implementation:
    """Returns the fastest one of the platform that the program being traced is for.

    Args:
      widths: of a device's part of the matrices.
      dtype: of the products.
    """
    platform = compiled_for()
    refusal = hopper_refusal(widths, dtype) if platform == "gpu" else None
    choice: dict[str, Implementation] = {"cpu": "blocks", "tpu": "megablox", "gpu": "hopper"}
    chosen = choice[platform] if refusal is None else "ragged_dot"
    _log(chosen, f"the first for {platform}" if refusal is None else f"not 'hopper' ({refusal})")
    return chosen


@functools.cache
def _log(chosen: str, reason: str) -> None:
    _LOGGER.info("products of experts are computed by %r: %s.", chosen, reason)


def grouped_matmul(
    rows: jax.Array, matrices: jax.Array, blocks: RowBlocks, implementation: Implementation
) -> jax.Array:
    """Multiplies each row by its group's matrix.

    Args:
      rows: [blocks * block_rows, in]; rows of blocks that hold none give zeros.
      matrices: [groups, in, out].
      blocks: of the rows.
      implementation: how.

    Returns:
      [blocks * block_rows, out] in the dtype of `rows`.
    """
    if implementation == "ragged_dot":
        return jax.lax.ragged_dot(rows, matrices, blocks.group_rows)
    if implementation != "blocks":
        interpret = compiled_for() == "cpu"
        return kernel_matmul(implementation, interpret, rows, matrices, blocks.group_rows)
    return _blocks_matmul(rows, matrices, blocks)


@jax.custom_vjp
def _blocks_matmul(rows, matrices, blocks):
    return _each_block(rows, blocks, matrices, lambda block, matrix: block @ matrix)


def _forward(rows, matrices, blocks):
    return _blocks_matmul(rows, matrices, blocks), (rows, matrices, blocks)


def _backward(saved, gradient):
    rows, matrices, blocks = saved
    rows_gradient = _each_block(gradient, blocks, matrices, lambda block, m: block @ m.T)
    block_rows = rows.shape[0] // blocks.block_groups.shape[0]

    def add(index, total):
        start = index * block_rows
        block = jax.lax.dynamic_slice_in_dim(rows, start, block_rows)
        block_gradient = jax.lax.dynamic_slice_in_dim(gradient, start, block_rows)
        product = jnp.matmul(block.T, block_gradient, preferred_element_type=jnp.float32)
        group = blocks.block_groups[index]
        added = jax.lax.dynamic_index_in_dim(total, group, keepdims=False) + product
        return jax.lax.dynamic_update_index_in_dim(total, added, group, 0)

    start = _zeros(matrices.shape, jnp.float32, rows, gradient, matrices)
    total = jax.lax.fori_loop(0, blocks.num_blocks, add, start)
    return rows_gradient, total.astype(matrices.dtype), None


_blocks_matmul.defvjp(_forward, _backward)


def _each_block(rows, blocks, matrices, multiply):
    """Applies `multiply` to each block that holds rows and its group's matrix."""
    block_rows = rows.shape[0] // blocks.block_groups.shape[0]

    def compute(index):
        block = jax.lax.dynamic_slice_in_dim(rows, index * block_rows, block_rows)
        group = blocks.block_groups[index]
        matrix = jax.lax.dynamic_index_in_dim(matrices, group, keepdims=False)
        return multiply(block, matrix).astype(rows.dtype)

    def write(index, out):
        return jax.lax.dynamic_update_slice_in_dim(out, compute(index), index * block_rows, 0)

    width = jax.eval_shape(compute, 0).shape[-1]
    start = _zeros((rows.shape[0], width), rows.dtype, rows, matrices)
    # A loop as long as the blocks that hold rows; its own gradient is written above.
    return jax.lax.fori_loop(0, blocks.num_blocks, write, start)


def _zeros(shape, dtype, *operands):
    """Zeros that, inside shard_map, vary over the mesh axes that the operands vary over."""
    # Not 0 * operand: that is NaN where the operand is not finite.
    marks = (jnp.zeros_like(operand, dtype=dtype, shape=()) for operand in operands)
    return functools.reduce(jnp.add, marks, jnp.zeros(shape, dtype))
