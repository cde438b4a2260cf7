"""Captions as the rows that a transformer without a head reads."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.batch import Batch


def caption_rows(tokens: jax.Array, lengths: jax.Array, masks_padding: bool) -> Batch:
    """Returns a row of one segment for each caption.

    Args:
      tokens: [batch, length] int32.
      lengths: [batch], the tokens of each caption.
      masks_padding: whether what follows a caption is of no segment; else it is read like text.
    """
    positions = jnp.zeros_like(tokens) + jnp.arange(tokens.shape[1], dtype=tokens.dtype)
    segment_ids = jnp.ones_like(tokens)
    if masks_padding:
        segment_ids = (positions < lengths[:, None]).astype(tokens.dtype)
    nothing = jnp.zeros_like(tokens)
    return Batch(tokens, tokens, nothing.astype(jnp.float32), positions, segment_ids, nothing)
