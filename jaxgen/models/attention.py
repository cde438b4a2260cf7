"""Multi-head attention with grouped key and value heads (GQA, 2305.13245; MQA, 1911.02150)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.cache import write
from jaxgen.models.config import TransformerConfig
from jaxgen.models.linear import linear
from jaxgen.models.parameters import gather, make_parameter, normal, zeros
from jaxgen.models.positions import rotate
from jaxgen.sharding.rules import Rules, length_is_whole, reshard

QUERY_CHUNKS = 4
"""Pieces of the queries; rows are packed in order, so each piece needs no key after its end."""


class Attention(nnx.Module):
    """Projections to heads, attention, projection back."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, rules: Rules):
        self.config = config
        self.rules = rules
        embed, heads, kv_heads = config.embed_dim, config.num_heads, config.kv_heads
        head_dim = config.width_of_head
        into, out_of = (
            normal(embed**-0.5),
            normal((2 * config.num_layers * heads * head_dim) ** -0.5),
        )
        query, kv = ("embed", "heads", "head_dim"), ("embed", "kv_heads", "head_dim")
        out = ("heads", "head_dim", "embed")
        self.query = make_parameter(rngs, rules, (embed, heads, head_dim), query, into)
        self.key = make_parameter(rngs, rules, (embed, kv_heads, head_dim), kv, into)
        self.value = make_parameter(rngs, rules, (embed, kv_heads, head_dim), kv, into)
        self.out = make_parameter(rngs, rules, (heads, head_dim, embed), out, out_of)

        def bias(shape, axes):
            return make_parameter(rngs, rules, shape, axes, zeros) if config.use_bias else None

        self.query_bias = bias((heads, head_dim), query[1:])
        self.key_bias = bias((kv_heads, head_dim), kv[1:])
        self.value_bias = bias((kv_heads, head_dim), kv[1:])
        self.out_bias = bias((embed,), out[2:])

    def __call__(
        self,
        x: jax.Array,
        visible: jax.Array,
        angles: tuple[jax.Array, jax.Array] | None,
        cached: tuple[jax.Array, jax.Array] | None = None,
        slots: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
        """Attends.

        Args:
          x: [batch, length, embed].
          visible: [batch, length, keys] bool.
          angles: cosine and sine of rotary positions, or None.
          cached: keys and values [batch, kv_heads, capacity, head_dim] to write to and attend over.
          slots: [batch, length] int32, where the new keys and values go in `cached`.

        Returns:
          [batch, length, embed], and the written cache if one was given.
        """
        query = self._project(x, self.query, self.query_bias, "heads")
        key = self._project(x, self.key, self.key_bias, "kv_heads")
        value = self._project(x, self.value, self.value_bias, "kv_heads")
        if angles is not None:
            query, key = rotate(query, *angles), rotate(key, *angles)
        whole = self.rules.activation("batch", "kv_heads", None, None)
        key, value = reshard(key, whole), reshard(value, whole)
        if cached is not None and slots is not None:
            cached = write(cached[0], key, slots), write(cached[1], value, slots)
            key, value = cached
        num_chunks = QUERY_CHUNKS if cached is None and length_is_whole(self.rules) else 1
        mixed = attend(query, key, value, visible, num_chunks)
        batch, heads, length, head_dim = mixed.shape
        out = gather(self.out, self.rules, x.dtype).reshape(heads * head_dim, -1)
        mixed = mixed.transpose(0, 2, 1, 3).reshape(batch, length, heads * head_dim)
        layout = self.rules.activation("batch", "length", None)
        y = linear("btf,fd->btd", mixed, out, layout)
        if self.out_bias is not None:
            y = y + gather(self.out_bias, self.rules, x.dtype)
        return y, cached

    def _project(self, x, weight, bias, heads):
        embed, num_heads, head_dim = weight.shape
        flat = gather(weight, self.rules, x.dtype).reshape(embed, num_heads * head_dim)
        y = linear("btd,df->btf", x, flat, self.rules.activation("batch", "length", heads))
        y = y.reshape(*x.shape[:2], num_heads, head_dim)
        if bias is not None:
            y = y + gather(bias, self.rules, x.dtype)
        return y.transpose(0, 2, 1, 3)


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, visible: jax.Array, num_chunks: int = 1
) -> jax.Array:
    """Softmax attention, softmax in float32, head-major throughout.

    Args:
      query: [batch, heads, queries, head_dim].
      key: [batch, kv_heads, keys, head_dim]; heads is a multiple of kv_heads.
      value: like `key`.
      visible: [batch, queries, keys] bool.
      num_chunks: above 1, queries are worked through in so many pieces, each against the keys up to
        its own end; only where no later key is visible.

    Returns:
      [batch, heads, queries, head_dim].
    """
    queries = query.shape[2]
    num_chunks = min(num_chunks, queries)
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
            )
        )
    return pieces[0] if num_chunks == 1 else jnp.concatenate(pieces, axis=2)


def _attend(query, key, value, visible):
    batch, heads, queries, head_dim = query.shape
    grouped, visible = query * head_dim**-0.5, visible[:, None]
    groups = ""
    if heads > key.shape[1]:
        groups = "g"  # An axis of size 1 would cost XLA on CPU a twentieth of the step.
        grouped = grouped.reshape(batch, key.shape[1], -1, queries, head_dim)
        visible = visible[:, None]
    scores = jnp.einsum(
        f"bn{groups}qk,bnsk->bn{groups}qs", grouped, key, preferred_element_type=jnp.float32
    )
    scores = jnp.where(visible, scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    mixed = jnp.einsum(f"bn{groups}qs,bnsk->bn{groups}qk", weights, value)
    return mixed.reshape(batch, heads, queries, head_dim)
