"""Functions of a few positions at a time, so that no logits of all positions are ever there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.sharding.rules import Rules, reshard

POSITIONS_AT_A_TIME = 2048
"""Positions of all rows together that have their logits at once."""


def map_positions(function: Callable[..., Any], arrays: tuple[jax.Array, ...], rules: Rules) -> Any:
    """Returns a function's figures of all positions, worked out in chunks and again for gradients.

    Args:
      function: arrays [rows, chunk, ...] to a pytree of [rows, chunk].
      arrays: each [rows, length, ...], whose rows and positions may be split over a mesh.
      rules: of the layout.

    Returns:
      A pytree of [rows, length].
    """
    rows, length = arrays[0].shape[:2]
    chunk = max(1, min(length, POSITIONS_AT_A_TIME // rows))
    chunks = []
    for array in arrays:
        inner = [None] * (array.ndim - 1)
        chunks.append(
            split_positions(reshard(jnp.asarray(array), rules.activation("batch", *inner)), chunk)
        )
    again = jax.checkpoint(function)
    _, figures = jax.lax.scan(lambda _, chunk: (None, again(*chunk)), None, tuple(chunks))
    layout = rules.activation("batch", "length")
    return jax.tree.map(lambda x: reshard(join_positions(x, length), layout), figures)


def split_positions(x: jax.Array, chunk: int) -> jax.Array:
    """Maps [rows, length, ...] to [chunks, rows, chunk, ...], padded with zeros."""
    extra = -x.shape[1] % chunk
    x = jnp.pad(x, [(0, 0), (0, extra)] + [(0, 0)] * (x.ndim - 2))
    x = x.reshape(x.shape[0], -1, chunk, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0)


def join_positions(x: jax.Array, length: int) -> jax.Array:
    """Inverts `split_positions`."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :length]
