"""Initial values of arrays."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]  # (key, shape, out_sharding) -> array


def normal(stddev: float) -> Initializer:
    """Draws from N(0, stddev^2)."""

    def initialize(key, shape, out_sharding):
        return stddev * jax.random.normal(key, shape, jnp.float32, out_sharding=out_sharding)

    return initialize


def ones(key, shape, out_sharding):
    """Every entry is 1."""
    del key
    return jnp.ones(shape, jnp.float32, out_sharding=out_sharding)


def zeros(key, shape, out_sharding):
    """Every entry is 0."""
    del key
    return jnp.zeros(shape, jnp.float32, out_sharding=out_sharding)
