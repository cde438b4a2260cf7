"""Noise on embeddings in training passes (NEFTune, 2310.05914)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import mesh_is_set, reshard


def with_noise(
    x: jax.Array, segment_ids: jax.Array, alpha: float, key: jax.Array | None
) -> jax.Array:
    """Returns embeddings with uniform noise of up to alpha / sqrt(tokens of the segment * width).

    The noise of a segment has a norm of about alpha / sqrt(3), however long it is.

    Args:
      x: [batch, length, embed].
      segment_ids: [batch, length] int32.
      alpha: 0 adds none.
      key: of the training pass; without one there is none either.
    """
    if key is None or alpha == 0:
        return x
    layout = jax.typeof(x).sharding if mesh_is_set() else None
    uniform = jax.random.uniform(key, x.shape, jnp.float32, -1.0, 1.0, out_sharding=layout)
    whole = reshard(segment_ids, spec("batch", None))
    count = jnp.sum(segment_ids[:, :, None] == whole[:, None, :], axis=-1, dtype=jnp.float32)
    most = alpha / jnp.sqrt(count * x.shape[-1])
    return x + (uniform * most[..., None]).astype(x.dtype)
