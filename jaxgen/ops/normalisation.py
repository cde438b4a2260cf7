"""Normalisation without parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def rms_normalise(x: jax.Array, epsilon: float, num_axes: int = 1) -> jax.Array:
    """Returns x over its root mean square along the last `num_axes` axes, in the dtype of `x`."""
    mean_square = jnp.mean(jnp.square(x), axis=last_axes(num_axes), keepdims=True)
    return x * jax.lax.rsqrt(mean_square + epsilon)


def last_axes(count: int) -> tuple[int, ...]:
    """Returns the last `count` axes."""
    return tuple(range(-count, 0))
