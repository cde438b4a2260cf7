"""Dropout (1207.0580) as a function of a key."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.sharding.rules import mesh_is_set


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Entries set to 0 at the rate, the others grown to keep the mean; without a key `x` itself.

    What is dropped depends on the key and the shape, not on the mesh.
    """
    if key is None or rate == 0:
        return x
    layout = jax.typeof(x).sharding if mesh_is_set() else None
    uniform = jax.random.uniform(key, x.shape, jnp.float32, out_sharding=layout)
    return jnp.where(uniform >= rate, x / (1 - rate), 0).astype(x.dtype)


def split(key: jax.Array | None, count: int) -> list[jax.Array | None]:
    """Returns `count` keys, or as many Nones."""
    return [None] * count if key is None else list(jax.random.split(key, count))
