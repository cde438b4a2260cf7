"""Towers: stacks over rows that are whole, such as the patches of an image or frames of a sound."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.models.context import EncoderOutput, cross_context, make_contexts
from jaxgen.models.stack import Stack
from jaxgen.ops.attention.masks import attention_side
from jaxgen.ops.dropout import dropout, split
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.ops.taps import report
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import reshard


def run_tower(
    stack: Stack,
    x: jax.Array,
    key: jax.Array | None,
    num_layers: int | None = None,
    grid: tuple[int, int] | None = None,
    attended: tuple[jax.Array, jax.Array | None] | None = None,
    vector: jax.Array | None = None,
    there: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns the hidden states [batch, tokens, embed] of rows of one segment, and segment ids.

    Args:
      stack: the blocks.
      x: [batch, tokens, embed], what they read.
      key: of a training pass.
      num_layers: see `Stack`.
      grid: the rows and columns that the tokens lie on, where rotary positions turn by them.
      attended: what every block attends to: vectors [batch, keys, dim], and which of them are there
        [batch, keys] bool (None: all).
      vector: [batch, 1, dim], see `Stack`.
      there: [batch, tokens] bool, which tokens are no padding; None: all.
    """
    config = stack.config
    embedding_key, stack_key = split(key, 2)
    x = report("embedding", dropout(x, config.dropout, embedding_key))
    shape, rows = x.shape[:2], spec("batch", None)
    segments = jnp.ones(shape, jnp.int32) if there is None else there.astype(jnp.int32)
    segment_ids = reshard(segments, rows)
    places = jnp.broadcast_to(jnp.arange(shape[1], dtype=jnp.int32), shape)
    side = attention_side(reshard(places, rows), segment_ids)
    cells = None if grid is None else cells_of_grid(grid, shape[0])
    contexts = make_contexts(config, side, side, None, stack.relative, cells)
    encoder = None if attended is None else _encoder(segment_ids, *attended)
    output = stack(
        x,
        RoutedTokens(segment_ids),
        contexts,
        encoder=encoder,
        key=stack_key,
        num_layers=num_layers,
        vector=vector,
    )
    return output.hidden, segment_ids


def cells_of_grid(grid: tuple[int, int], batch: int) -> jax.Array:
    """Returns the time (0), row and column of each token, [batch, tokens, 3] int32."""
    rows, columns = jnp.indices(grid, jnp.int32)
    cells = jnp.stack([jnp.zeros_like(rows), rows, columns], axis=-1).reshape(1, -1, 3)
    return reshard(jnp.broadcast_to(cells, (batch, *cells.shape[1:])), spec("batch", None, None))


def _encoder(segment_ids: jax.Array, hidden: jax.Array, there: jax.Array | None) -> EncoderOutput:
    """Returns vectors as cross-attention attends to them."""
    whole = spec("batch", None)
    ids = jnp.ones(hidden.shape[:2], jnp.int32) if there is None else there.astype(jnp.int32)
    return EncoderOutput(
        reshard(hidden, spec("batch", None, None)), cross_context(segment_ids, reshard(ids, whole))
    )
