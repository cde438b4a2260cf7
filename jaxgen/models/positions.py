"""Rotary positions (RoPE, 2104.09864)."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def rotary_angles(positions: jax.Array, head_dim: int, base: float) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of every position's angles.

    Args:
      positions: [batch, length] int32.
      head_dim: width of a head, even.
      base: the slowest wavelength's base.

    Returns:
      Two float32 arrays [batch, length, head_dim / 2].
    """
    frequencies = base ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    angles = positions.astype(jnp.float32)[..., None] * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, cosine: jax.Array, sine: jax.Array) -> jax.Array:
    """Turns the two halves of each head by its position's angles.

    Args:
      x: [batch, heads, length, head_dim].
      cosine: [batch, length, head_dim / 2].
      sine: like `cosine`.

    Returns:
      Like `x`, in its dtype; computed in float32.
    """
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cosine, sine = cosine[:, None], sine[:, None]
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)
