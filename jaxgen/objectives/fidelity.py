"""How near a row that was made is to the original, and how evenly codes are used."""

from __future__ import annotations

import jax
import jax.numpy as jnp

LEAST_ERROR = 1e-10
"""Of mean squares: nothing is told apart above 100 dB."""


def psnr(values: jax.Array, made: jax.Array) -> jax.Array:
    """Returns the peak signal-to-noise ratio of each picture [batch, ...] of 0 to 1: [batch] dB."""
    axes = tuple(range(1, values.ndim))
    error = jnp.mean(jnp.square(made - values), axis=axes)
    return -10 * jnp.log10(jnp.maximum(error, LEAST_ERROR))


def si_sdr(values: jax.Array, made: jax.Array) -> jax.Array:
    """Returns the scale-invariant signal-to-distortion ratio of each sound: [batch] dB.

    What was made is compared with its projection on the original (1811.02508); neither mean is
    taken out. Both of the powers are at least `LEAST_ERROR` of the original's, so that it lies
    between -100 and 100 dB, and is 0 where the original is silent.
    """
    power = jnp.sum(jnp.square(values), axis=-1)
    scale = jnp.sum(made * values, axis=-1) / jnp.maximum(power, 1e-30)
    target = scale[:, None] * values
    signal = jnp.sum(jnp.square(target), axis=-1)
    noise = jnp.sum(jnp.square(made - target), axis=-1)
    whole = jnp.maximum(signal + noise, power) * LEAST_ERROR
    ratio = 10 * jnp.log10(jnp.maximum(signal, whole) / jnp.maximum(noise, whole))
    return jnp.where(power > 0, ratio, 0.0)


def code_shares(codes: jax.Array, num_codes: int) -> jax.Array:
    """Returns the share of each code among codes of any shape: [num_codes] float32."""
    counts = jnp.zeros(num_codes, jnp.float32).at[codes.reshape(-1)].add(1.0)
    return counts / codes.size
