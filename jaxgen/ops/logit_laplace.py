"""The logit-Laplace distribution: that of the sigmoid of a Laplace variable (2102.12092, A.3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def into_margin(x: jax.Array, margin: float) -> jax.Array:
    """Maps [0, 1] to [margin, 1 - margin], where the density is finite."""
    return (1 - 2 * margin) * x + margin


def out_of_margin(x: jax.Array, margin: float) -> jax.Array:
    """Undoes `into_margin`; what lies outside is cut off to [0, 1]."""
    return jnp.clip((x - margin) / (1 - 2 * margin), 0, 1)


def negative_log_density(x: jax.Array, centre: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Returns the negative logarithm of the density at numbers strictly between 0 and 1.

    Args:
      x: the numbers.
      centre: of the Laplace variable.
      log_scale: the logarithm of its scale.
    """
    logit = jnp.log(x) - jnp.log1p(-x)
    distance = jnp.abs(logit - centre) * jnp.exp(-log_scale)
    return distance + jnp.log(2.0) + log_scale + jnp.log(x) + jnp.log1p(-x)
