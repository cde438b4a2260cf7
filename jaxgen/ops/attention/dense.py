"""Attention whose logits are written out, for a piece of the queries at a time."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp

from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.dropout import dropout

QUERY_CHUNKS = 4
"""Pieces of the queries; rows are packed in order, so each piece needs no key after its end."""


def dense_attention(call: AttentionCall) -> jax.Array:
    """Attends with logits and softmax in float32.

    Where no query attends to a later key, the queries are worked through in pieces, each against
    the keys up to its end; mask and bias are made for a piece.

    Returns:
      [batch, heads, queries, value_dim].
    """
    queries = call.query.shape[2]
    # What is dropped must not depend on the pieces, which depend on the mesh.
    if not call.mask.in_order or call.drops or queries < 2:
        return _piece(call, slice(None), slice(None))
    count = min(QUERY_CHUNKS, queries)
    ends = [queries * i // count for i in range(count + 1)]
    pieces = [
        _piece(call, slice(start, end), slice(0, end)) for start, end in itertools.pairwise(ends)
    ]
    return jnp.concatenate(pieces, axis=2)


def _piece(call: AttentionCall, rows: slice, columns: slice) -> jax.Array:
    query, key, value = call.query[:, :, rows], call.key[:, :, columns], call.value[:, :, columns]
    batch, heads, queries, head_dim = query.shape
    mask = call.mask.dense(rows, columns)[:, None]
    bias = None if call.bias is None else call.bias.dense(rows, columns)
    grouped, groups = query, ""
    if heads > key.shape[1]:
        groups = "g"  # An axis of size 1 would cost XLA on CPU a twentieth of the step.
        grouped = grouped.reshape(batch, key.shape[1], -1, queries, head_dim)
        mask = mask[:, None]
        if bias is not None:
            bias = bias.reshape(bias.shape[0], key.shape[1], -1, *bias.shape[2:])
    logits = jnp.einsum(
        f"bn{groups}qk,bnsk->bn{groups}qs", grouped, key, preferred_element_type=jnp.float32
    )
    if call.soft_cap is not None:
        logits = call.soft_cap * jnp.tanh(logits / call.soft_cap)
    if bias is not None:
        logits = logits + bias
    logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1)
    if call.sinks is not None:
        sinks = call.sinks.reshape(key.shape[1], -1, 1, 1) if groups else call.sinks[:, None, None]
        total = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        weights = weights * jax.nn.sigmoid(total - sinks)
    weights = dropout(weights, call.dropout_rate, call.dropout_key)
    mixed = jnp.einsum(f"bn{groups}qs,bnsv->bn{groups}qv", weights.astype(value.dtype), value)
    return mixed.reshape(batch, heads, queries, value.shape[-1])
