"""Softmax attention over visible keys, in pieces of the queries."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.ops.dropout import dropout

QUERY_CHUNKS = 4
"""Pieces of the queries; rows are packed in order, so each piece needs no key after its end."""


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    visible: jax.Array,
    bias: jax.Array | None = None,
    soft_cap: float | None = None,
    *,
    in_order: bool = False,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Attention with logits and softmax in float32, head-major throughout.

    Args:
      query: [batch, heads, queries, head_dim], already scaled.
      key: [batch, kv_heads, keys, head_dim]; heads is a multiple of kv_heads.
      value: [batch, kv_heads, keys, value_dim].
      visible: [batch, queries, keys] bool.
      bias: [1 or batch, heads, queries, keys] float32, added to the logits.
      soft_cap: logits become cap * tanh(logits / cap), before the bias.
      in_order: no query sees a key after its own place, so that queries can be worked through in
        pieces, each against the keys up to its end.
      dropout_rate: of the weights.
      dropout_key: None leaves the dropout out.

    Returns:
      [batch, heads, queries, value_dim].
    """
    queries = query.shape[2]
    # What is dropped must not depend on the pieces, which depend on the mesh.
    drops = dropout_rate > 0 and dropout_key is not None
    num_chunks = min(QUERY_CHUNKS, queries) if in_order and not drops else 1
    pieces = []
    for piece in range(num_chunks):
        start, end = (queries * i // num_chunks for i in (piece, piece + 1))
        keys = end if num_chunks > 1 else key.shape[2]
        pieces.append(
            _attend(
                query[:, :, start:end],
                key[:, :, :keys],
                value[:, :, :keys],
                visible[:, start:end, :keys],
                None if bias is None else bias[:, :, start:end, :keys],
                soft_cap,
                dropout_rate,
                dropout_key,
            )
        )
    return pieces[0] if num_chunks == 1 else jnp.concatenate(pieces, axis=2)


def _attend(query, key, value, visible, bias, soft_cap, dropout_rate, dropout_key):
    batch, heads, queries, head_dim = query.shape
    grouped, visible = query, visible[:, None]
    groups = ""
    if heads > key.shape[1]:
        groups = "g"  # An axis of size 1 would cost XLA on CPU a twentieth of the step.
        grouped = grouped.reshape(batch, key.shape[1], -1, queries, head_dim)
        visible = visible[:, None]
        if bias is not None:
            bias = bias.reshape(bias.shape[0], key.shape[1], -1, *bias.shape[2:])
    scores = jnp.einsum(
        f"bn{groups}qk,bnsk->bn{groups}qs", grouped, key, preferred_element_type=jnp.float32
    )
    if soft_cap is not None:
        scores = soft_cap * jnp.tanh(scores / soft_cap)
    if bias is not None:
        scores = scores + bias
    scores = jnp.where(visible, scores, jnp.finfo(jnp.float32).min)
    weights = dropout(jax.nn.softmax(scores, axis=-1), dropout_rate, dropout_key)
    mixed = jnp.einsum(f"bn{groups}qs,bnsv->bn{groups}qv", weights.astype(value.dtype), value)
    return mixed.reshape(batch, heads, queries, value.shape[-1])
