"""Gumbel-softmax: a choice among codes that is soft while it is learned (1611.01144)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.sharding.rules import mesh_is_set


def gumbel_softmax(logits: jax.Array, key: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """Returns weights of codes that sum to 1, nearer to a single code the lower the temperature.

    The largest weight is a draw from the softmax of the logits, at any temperature.

    Args:
      logits: [..., codes].
      key: of the draw.
      temperature: above 0.
    """
    layout = jax.typeof(logits).sharding if mesh_is_set() else None
    noise = jax.random.gumbel(key, logits.shape, logits.dtype, out_sharding=layout)
    return jax.nn.softmax((logits + noise) / temperature, axis=-1)


def kl_to_uniform(logits: jax.Array) -> jax.Array:
    """Returns the divergence of the softmax of logits [..., codes] from the uniform: [...] nats."""
    log_shares = jax.nn.log_softmax(logits, axis=-1)
    entropy = -jnp.sum(jnp.exp(log_shares) * log_shares, axis=-1)
    return jnp.log(jnp.float32(logits.shape[-1])) - entropy
