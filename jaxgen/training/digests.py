"""Digests of arrays that do not depend on their layout, to tell a damaged checkpoint.

A digest is the sum, modulo 2^32, of each element's bits times an odd number drawn from its index.
Sums do not depend on how an array is split, and any single changed element changes the sum,
because an odd factor has an inverse modulo 2^32.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

_MIX = 0x9E3779B1  # 2^32 over the golden ratio: spreads neighbouring indices.


def digest(array: jax.Array) -> jax.Array:
    """Returns the uint32 digest of one array of any shape, of 8, 16 or 32-bit elements."""
    array = jax.device_put(array, jax.memory.Space.Device)  # It may be in the host's memory.
    if array.dtype == jnp.bool_:
        array = array.astype(jnp.uint8)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[array.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
    index = jnp.zeros((), jnp.uint32)
    for axis, size in enumerate(array.shape):
        shape = [1] * array.ndim
        shape[axis] = size
        index = index * jnp.uint32(size) + jnp.arange(size, dtype=jnp.uint32).reshape(shape)
    weights = (index * jnp.uint32(_MIX)) ^ (index >> 15) | jnp.uint32(1)
    return jnp.sum(bits * weights, dtype=jnp.uint32)


@jax.jit
def digests(arrays: dict[str, jax.Array]) -> dict[str, Any]:
    """Returns the digest of each array of a flat dictionary."""
    return {name: digest(array) for name, array in arrays.items()}
