"""Grouped products by Pallas kernels: megablox on TPU, and on GPU those for Hopper.

`jax.lax.ragged_dot` multiplies every row with every group's matrix where it makes the gradient of
the matrices on TPU; these visit each row once.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

Kernel = Literal["megablox", "hopper"]
LANES = 128
"""What the widths of a product must be multiples of on GPU, and parts of rows on TPU are."""
_HOPPER: dict[str, Any] = {
    "block_m": 128, "block_n": 128, "block_k": 64, "max_concurrent_steps": 4,
}  # fmt: skip
"""Parts that Hopper's kernels work in: the best of those tried on an H200 (docs/benchmarks.md)."""
_ACROSS = 16
"""Parts of the result, side by side, that are computed for the same rows before the next rows are
read, at most."""


def hopper_refusal(widths: tuple[int, ...], dtype: Any) -> str | None:
    """Returns why the kernels for GPU cannot compute products between these widths, or None."""
    if dtype not in (jnp.bfloat16, jnp.float16):
        return f"they take bfloat16 and float16, not {jnp.dtype(dtype).name}"
    if any(width % LANES for width in widths):
        return f"widths {widths} are not all multiples of {LANES}"
    gpus = [device for device in jax.local_devices() if device.platform == "gpu"]
    if not gpus:
        return "no GPU is here to ask what it can do"
    capability = str(getattr(gpus[0], "compute_capability", ""))
    if capability.split(".")[0] != "9":
        return f"they are for compute capability 9, and {gpus[0].device_kind} has {capability}"
    return None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def kernel_matmul(
    kernel: Kernel,
    interpret: bool,
    rows: jax.Array,
    matrices: jax.Array,
    group_rows: jax.Array,
) -> jax.Array:
    """Multiplies each row by its group's matrix; rows after the last group give zeros.

    Args:
      kernel: which.
      interpret: whether to run megablox's steps as ordinary operations, on any platform.
      rows: [rows, in], group after group.
      matrices: [groups, in, out].
      group_rows: [groups] int32, rows of each.

    Returns:
      [rows, out] in the dtype of `rows`.
    """
    return _multiply(kernel, interpret, rows, matrices, group_rows, False)


def _forward(kernel, interpret, rows, matrices, group_rows):
    y = kernel_matmul(kernel, interpret, rows, matrices, group_rows)
    return y, (rows, matrices, group_rows)


def _backward(kernel, interpret, saved, gradient):
    rows, matrices, group_rows = saved
    rows_gradient = _multiply(kernel, interpret, gradient, matrices, group_rows, True)
    if kernel == "hopper":
        from jax.experimental.pallas.ops.gpu import transposed_ragged_dot_mgpu as hopper

        tiles = _hopper_tiles(gradient.shape[1])
        total: Any = hopper.transposed_ragged_dot(rows, gradient, group_sizes=group_rows, **tiles)
    else:
        from jax.experimental.pallas.ops.tpu.megablox.gmm import tgmm

        rows, gradient = _whole_tiles(rows), _whole_tiles(gradient)
        total = tgmm(
            rows.T, gradient, group_rows, matrices.dtype,
            _tiles(rows, matrices.shape), interpret=interpret,
        )  # fmt: skip
    return rows_gradient, total.astype(matrices.dtype), None


kernel_matmul.defvjp(_forward, _backward)


def _multiply(kernel: Kernel, interpret, rows, matrices, group_rows, transposed: bool):
    """Multiplies by matrices [groups, in, out], or [groups, out, in] where `transposed`."""
    if kernel == "hopper":
        # Only here and below: imports that no other platform needs.
        from jax.experimental.pallas.ops.gpu.ragged_dot_mgpu import ragged_dot

        # Tensor cores read matrices [out, in] 1.6 times as fast, which pays for the transposition.
        across = matrices if transposed else matrices.swapaxes(1, 2)
        tiles = _hopper_tiles(across.shape[1])
        y = ragged_dot(rows, across, group_sizes=group_rows, transpose_rhs=True, **tiles)
    else:
        from jax.experimental.pallas.ops.tpu.megablox.gmm import gmm

        groups, *shape = matrices.shape
        padded = _whole_tiles(rows)
        tiles = _tiles(padded, (groups, *(reversed(shape) if transposed else shape)))
        y = gmm(
            padded, matrices, group_rows, rows.dtype, tiles,
            transpose_rhs=transposed, interpret=interpret,
        )[: len(rows)]  # fmt: skip
    # Kernels leave what is in no group as the memory was.
    is_row = jnp.arange(len(rows)) < jnp.sum(group_rows)
    return jnp.where(is_row[:, None], y, 0)


def _hopper_tiles(width: int) -> dict[str, Any]:
    """Returns the settings of a kernel for Hopper whose result is so wide."""
    count = width // _HOPPER["block_n"]
    across = max(n for n in range(1, _ACROSS + 1) if count % n == 0)
    return _HOPPER | {"grid_block_n": across}


def _whole_tiles(rows):
    return jnp.pad(rows, [(0, -len(rows) % LANES), (0, 0)])


def _tiles(rows: jax.Array, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Returns the parts in which megablox takes rows, the width summed over and the other.

    Large ones read matrices less often. A part in which two groups meet is visited for each, so
    that it is no more than a quarter of a group.
    """
    groups, n_in, n_out = shape
    of_group = len(rows) // groups
    tall = next((n for n in (512, 256) if len(rows) % n == 0 and 4 * n <= of_group), LANES)
    most = 2048 // rows.dtype.itemsize
    return tall, _part(n_in, most), _part(n_out, most)


def _part(width: int, most: int) -> int:
    """Returns the size of parts of a width, as few and as even as may be, each at most `most`."""
    if width <= most:
        return width
    return -(-width // -(-width // most) // LANES) * LANES
