"""Pooling: from the hidden states of a row to one vector."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.attention import Attention
from jaxgen.models.context import AttentionContext
from jaxgen.models.feedforward import FeedForward
from jaxgen.models.norms import Norm
from jaxgen.models.parameters import gather, make_parameter
from jaxgen.models.stack_config import BlockKind, StackConfig
from jaxgen.ops.attention.masks import AttentionMask, attention_side
from jaxgen.ops.initializers import normal


class AttentionPool(nnx.Module):
    """A learned query attends to a row, and a feed-forward follows (SigLIP, 2303.15343).

    The heads, width, norm and activation are those of the stack before it.
    """

    def __init__(self, config: StackConfig, rngs: nnx.Rngs):
        embed = config.embed_dim
        start = normal(config.initialization.embedding_stddev)
        self.query = make_parameter(rngs, (embed,), ("embed",), start)
        self.attention = Attention(BlockKind(config.layers[0], False), config, rngs, embed)
        self.norm = Norm(config, rngs)
        self.feed_forward = FeedForward(config, rngs)

    def __call__(self, hidden: jax.Array, segment_ids: jax.Array) -> jax.Array:
        """Maps [batch, length, embed] to [batch, 1, embed]; padding has segment 0."""
        asked = jnp.zeros_like(hidden[:, :1]) + gather(self.query, hidden.dtype)
        queries, keys = (attention_side(ids, ids) for ids in (segment_ids[:, :1], segment_ids))
        context = AttentionContext(AttentionMask((), queries, keys))
        x, _ = self.attention(asked, context, attended=hidden)
        return x + self.feed_forward(self.norm(x))


def take(hidden: jax.Array, place: jax.Array) -> jax.Array:
    """Returns [batch, 1, embed] of [batch, length, embed]: each row's at its [batch] place."""
    is_there = jnp.arange(hidden.shape[1]) == place[:, None]
    return jnp.sum(jnp.where(is_there[..., None], hidden, 0), axis=1, keepdims=True)


def mean(hidden: jax.Array) -> jax.Array:
    """Returns the mean over a row, [batch, 1, embed]."""
    return jnp.mean(hidden, axis=1, keepdims=True)


def count_attention_pool(config: StackConfig) -> tuple[int, int]:
    """Returns an attention pool's parameters, and the multiply-adds of a row beside those of keys.

    Keys and values, of every token of the row, take 2 * embed * kv_heads * head_dim each.
    """
    embed, width = config.embed_dim, config.width_of_head
    heads, kv_heads = config.num_heads * width, config.kv_heads * width
    matrices = (3 if config.gated else 2) * embed * config.mlp_dim
    once = 2 * embed * heads + matrices
    vectors = embed * (1 + config.norm_scale + config.has_bias("norm"))
    vectors += (heads + 2 * kv_heads) * config.has_bias("qkv")
    vectors += (heads + kv_heads) * config.has_bias("qv")
    vectors += embed * config.has_bias("attention_out")
    into = (2 if config.gated else 1) * config.mlp_dim
    vectors += (into + embed) * config.has_bias("feed_forward")
    return once + 2 * embed * kv_heads + vectors, once
