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
    return jnp.where(is_there[..., None], take_vectors(vectors, index), x)


def take_vectors(vectors: jax.Array, index: jax.Array) -> jax.Array:
    """Returns [batch, length, embed], at each place the vector of its row that an index names.

    Args:
      vectors: [batch, vectors, embed].
      index: [batch, length] int32.
    """
    if not mesh_is_set():
        return _rows(vectors, index)
    tokens_layout = spec("batch", "length")
    return jax.shard_map(
        lambda vectors, index: _rows(varying(vectors, axis_names(tokens_layout[1])), index),
        in_specs=(spec("batch", None, None), tokens_layout),
        out_specs=spec("batch", "length", None),
    )(reshard(vectors, spec("batch", None, None)), reshard(index, tokens_layout))


def _rows(vectors: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(vectors, index[..., None], axis=1)


def cells_of_runs(
    is_there: jax.Array, modality: int, height: int, width: int
) -> tuple[jax.Array, jax.Array]:
    """Returns where vectors are, [batch, length, 1], and their cells; see `AttentionSide.cells`.

    Args:
      is_there: [batch, length] bool; a run of them is a picture, or several whole ones.
      modality: what they are of.
      height: rows of a picture.
      width: columns of it.
    """
    whole = reshard(is_there, spec("batch", None))
    places = jnp.broadcast_to(jnp.arange(whole.shape[1], dtype=jnp.int32), whole.shape)
    places = reshard(places, spec("batch", None))
    index = places - jax.lax.cummax(jnp.where(whole, -1, places), axis=1) - 1
    row, column = jnp.divmod(jnp.where(whole, index % (height * width), 0), width)
    cells = jnp.stack([jnp.full_like(row, modality), jnp.zeros_like(row), row, column], axis=-1)
    return is_there[..., None], reshard(cells, spec("batch", "length", None))
