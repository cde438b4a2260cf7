"""Towers: stacks over rows that are whole, such as the patches of an image or frames of a sound."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.models.context import make_contexts
from jaxgen.models.stack import Stack
from jaxgen.ops.attention.masks import attention_side
from jaxgen.ops.dropout import dropout, split
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.ops.taps import report
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import reshard


def run_tower(
    stack: Stack, x: jax.Array, key: jax.Array | None, num_layers: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """Returns the hidden states [batch, tokens, embed] of rows without padding, and segment ids.

    Args:
      stack: the blocks.
      x: [batch, tokens, embed], what they read.
      key: of a training pass.
      num_layers: see `Stack`.
    """
    config = stack.config
    embedding_key, stack_key = split(key, 2)
    x = report("embedding", dropout(x, config.dropout, embedding_key))
    shape, rows = x.shape[:2], spec("batch", None)
    segment_ids = reshard(jnp.ones(shape, jnp.int32), rows)
    places = jnp.broadcast_to(jnp.arange(shape[1], dtype=jnp.int32), shape)
    side = attention_side(reshard(places, rows), segment_ids)
    contexts = make_contexts(config, side, side, None, stack.relative)
    tokens = RoutedTokens(segment_ids)
    output = stack(x, tokens, contexts, key=stack_key, num_layers=num_layers)
    return output.hidden, segment_ids
