"""Arrays in 8 bits: a code for each entry, and for each block the largest size of its entries.

A block is an array's last axis, so codes and scales lie over a mesh as their array does, whatever
divides it. As in 8-bit Adam (2110.02861, whose blocks have 2,048 entries) codes are not spread
evenly: second moments of a block differ by many powers of ten, and one that became 0 would make an
update without bounds. There codes are a table; here they are a power, which needs no lookup.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.sharding.rules import mesh_is_set

LEVELS = 127
POWER = 4
"""Code c stands for (c / LEVELS)**POWER of the scale: neighbours differ by 3 % at the top, by 32 %
at a ten-thousandth of it, and the least is 4e-9 of it."""

MIN_BLOCK = 16
"""Entries below which a scale of four bytes would not be worth it."""


def fits_int8(x: Any) -> bool:
    """Returns whether an array is kept in 8 bits: float32, with a last axis that is long enough."""
    return x.dtype == jnp.float32 and x.ndim > 0 and x.shape[-1] >= MIN_BLOCK


def encode(x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Returns the codes, int8 of the array's shape, and the scales, float32 [..., 1].

    Values are rounded up or down at random, so that the expectation is exact (to the nearest code
    below without a key); but what is not 0 never becomes 0.
    """
    scale = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    share = jnp.abs(x) / jnp.where(scale == 0, 1.0, scale)
    lower = jnp.clip(jnp.floor(LEVELS * share ** (1 / POWER)), 1, LEVELS)
    if key is not None:
        low, high = _share(lower), _share(lower + 1)
        layout = jax.typeof(x).sharding.spec if mesh_is_set() else None
        bits = jax.random.bits(key, x.shape, jnp.uint16, out_sharding=layout)
        lower += bits < 2.0**16 * (share - low) / (high - low)
    codes = jnp.sign(x) * jnp.minimum(lower, LEVELS)
    return codes.astype(jnp.int8), scale


def decode(codes: jax.Array, scale: jax.Array) -> jax.Array:
    """Returns the float32 array of codes and their blocks' scales."""
    wide = codes.astype(jnp.float32)
    return jnp.sign(wide) * _share(jnp.abs(wide)) * scale


def _share(code: jax.Array) -> jax.Array:
    return (code / LEVELS) ** POWER
