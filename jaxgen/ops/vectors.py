"""Vectors put into rows at the places that stand for them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import mesh_is_set, reshard, varying


def put_vectors(x: jax.Array, is_there: jax.Array, vectors: jax.Array) -> jax.Array:
    """Returns rows in which the vectors stand, in order, where they are to be.

    Args:
      x: [batch, length, embed].
      is_there: [batch, length] bool, the places of vectors.
      vectors: [batch, vectors, embed], at least as many as a row has places.
    """
    whole = reshard(is_there, spec("batch", None)).astype(jnp.int32)
    index = jnp.clip(jnp.cumsum(whole, axis=1) - 1, 0, vectors.shape[1] - 1)
    if not mesh_is_set():
        found = _rows(vectors, index)
    else:
        tokens_layout = spec("batch", "length")
        found = jax.shard_map(
            lambda vectors, index: _rows(varying(vectors, axis_names(tokens_layout[1])), index),
            in_specs=(spec("batch", None, None), tokens_layout),
            out_specs=spec("batch", "length", None),
        )(reshard(vectors, spec("batch", None, None)), reshard(index, tokens_layout))
    return jnp.where(is_there[..., None], found, x)


def _rows(vectors: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(vectors, index[..., None], axis=1)
