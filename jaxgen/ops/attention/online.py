"""Softmax over keys that come a block at a time, and its gradient (2205.14135; 2112.05682).

Queries are grouped by the key head they share: [batch, kv_heads, group, queries, ...]. Everything
but the operands of products is float32.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class RunningSoftmax(NamedTuple):
    """The state after some blocks of keys.

    Attributes:
      mixed: [..., queries, value_dim], the values weighted by exp(logits - top).
      total: [..., queries], the sum of those weights; 0 where no key was allowed.
      top: [..., queries], the highest logit.
    """

    mixed: jax.Array
    total: jax.Array
    top: jax.Array


class Logits(NamedTuple):
    """The logits of a block.

    Attributes:
      masked: [..., queries, keys], -inf where a key is not allowed.
      capped: [..., queries, keys], before bias and mask.
    """

    masked: jax.Array
    capped: jax.Array


class BlockGradients(NamedTuple):
    """What a block adds to the gradients; `bias` is of the logits behind the soft cap."""

    query: jax.Array
    key: jax.Array
    value: jax.Array
    bias: jax.Array


def start(query: jax.Array, value_dim: int) -> RunningSoftmax:
    """Returns the state before the first block."""
    total = jnp.zeros(query.shape[:-1], jnp.float32)
    mixed = jnp.zeros((*total.shape, value_dim), jnp.float32)
    # Finite, so that the difference of two tops is never inf - inf.
    return RunningSoftmax(mixed, total, jnp.full_like(total, jnp.finfo(jnp.float32).min))


def block_logits(
    query: jax.Array,
    key: jax.Array,
    allowed: jax.Array,
    bias: jax.Array | None,
    soft_cap: float | None,
) -> Logits:
    """Returns the logits of queries [b, n, g, q, d] against keys [b, n, s, d].

    Args:
      query: already scaled.
      key: of a block.
      allowed: bool, broadcast to the logits.
      bias: broadcast to the logits, or None.
      soft_cap: see `AttentionCall`.
    """
    capped = jnp.einsum("bngqd,bnsd->bngqs", query, key, preferred_element_type=jnp.float32)
    if soft_cap is not None:
        capped = soft_cap * jnp.tanh(capped / soft_cap)
    biased = capped if bias is None else capped + bias
    return Logits(jnp.where(allowed, biased, -jnp.inf), capped)


def fold(running: RunningSoftmax, logits: jax.Array, value: jax.Array) -> RunningSoftmax:
    """Returns the state after another block, of masked logits and values [b, n, s, v]."""
    top = jnp.maximum(running.top, logits.max(axis=-1))
    weights = jnp.exp(logits - top[..., None])
    shrink = jnp.exp(running.top - top)
    mixed = jnp.einsum(
        "bngqs,bnsv->bngqv",
        weights.astype(value.dtype),
        value,
        preferred_element_type=jnp.float32,
    )
    return RunningSoftmax(
        running.mixed * shrink[..., None] + mixed,
        running.total * shrink + weights.sum(axis=-1),
        top,
    )


def finish(running: RunningSoftmax, sinks: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Returns the output and the logarithm of what weights are divided by, [..., queries].

    Both are 0 for a query that may attend to no key.

    Args:
      running: after the last block.
      sinks: [kv_heads, group], or None.
    """
    total = running.total
    if sinks is not None:
        total = total + jnp.exp(sinks[..., None] - running.top)
    is_empty = total == 0
    total = jnp.where(is_empty, 1, total)
    log_total = jnp.where(is_empty, 0, running.top + jnp.log(total))
    return running.mixed / total[..., None], log_total


def block_gradients(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    logits: Logits,
    soft_cap: float | None,
    log_total: jax.Array,
    gradient: jax.Array,
    inner: jax.Array,
) -> BlockGradients:
    """Returns a block's part of the gradients, in float32.

    Args:
      query: [b, n, g, q, d].
      key: [b, n, s, d].
      value: [b, n, s, v].
      logits: of the block, computed again.
      soft_cap: see `AttentionCall`.
      log_total: of `finish`.
      gradient: of the output.
      inner: [b, n, g, q], the output times its gradient, summed.
    """

    def product(equation, *operands):
        return jnp.einsum(equation, *operands, preferred_element_type=jnp.float32)

    weights = jnp.exp(logits.masked - log_total[..., None])
    to_weights = product("bngqv,bnsv->bngqs", gradient, value)
    to_biased = weights * (to_weights - inner[..., None])
    to_logits = to_biased
    if soft_cap is not None:
        to_logits = to_logits * (1 - (logits.capped / soft_cap) ** 2)
    to_logits = to_logits.astype(query.dtype)
    return BlockGradients(
        product("bngqs,bnsd->bngqd", to_logits, key),
        product("bngqs,bngqd->bnsd", to_logits, query),
        product("bngqs,bngqv->bnsv", weights.astype(value.dtype), gradient),
        to_biased,
    )
