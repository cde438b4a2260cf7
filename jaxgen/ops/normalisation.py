"""Normalisation without parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.ops.patches import reshape_rows


def rms_normalise(x: jax.Array, epsilon: float, num_axes: int = 1) -> jax.Array:
    """Returns x over its root mean square along the last `num_axes` axes, in the dtype of `x`."""
    mean_square = jnp.mean(jnp.square(x), axis=last_axes(num_axes), keepdims=True)
    return x * jax.lax.rsqrt(mean_square + epsilon)


def group_normalise(x: jax.Array, groups: int, epsilon: float) -> jax.Array:
    """Returns [batch, height, width, channels] float32 with every group of channels normalised.

    A group's mean and variance are over all places of a picture (1803.08494). Only the batch may be
    split over devices.
    """
    mean = _over_groups(jnp.mean(x, axis=(1, 2)), groups)
    x = x - mean
    variance = _over_groups(jnp.mean(jnp.square(x), axis=(1, 2)), groups)
    return x * jax.lax.rsqrt(variance + epsilon)


def _over_groups(means: jax.Array, groups: int) -> jax.Array:
    """Returns each group's mean of [batch, channels] means, [batch, 1, 1, channels]."""
    batch, channels = means.shape
    parts = reshape_rows(means, batch, groups, channels // groups)
    parts = jnp.broadcast_to(jnp.mean(parts, axis=-1, keepdims=True), parts.shape)
    return reshape_rows(parts, batch, 1, 1, channels)


def last_axes(count: int) -> tuple[int, ...]:
    """Returns the last `count` axes."""
    return tuple(range(-count, 0))
