"""Multi-head attention with grouped key and value heads (GQA, 2305.13245; MQA, 1911.02150)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.cache import KeyValue
from jaxgen.models.context import AttentionContext, with_table
from jaxgen.models.norms import Norm
from jaxgen.models.parameters import gather, kernel, kernel_stddev, make_parameter, multiply
from jaxgen.models.parametrization import Axes
from jaxgen.models.stack_config import BlockKind, StackConfig
from jaxgen.ops.attention.attend import attend
from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.initializers import normal, zeros
from jaxgen.ops.normalisation import rms_normalise
from jaxgen.ops.rematerialisation import named
from jaxgen.ops.slots import write_both
from jaxgen.ops.taps import report
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import reshard


class Attention(nnx.Module):
    """Projections to heads, attention, projection back."""

    def __init__(
        self,
        kind: BlockKind,
        config: StackConfig,
        rngs: nnx.Rngs,
        attended_dim: int | None = None,
        joins_stream: bool = True,
    ):
        """Makes self-attention, or cross-attention to a stream of width `attended_dim`.

        Without a projection back to the stream it only makes queries, keys and values.
        """
        is_cross = attended_dim is not None
        self.config = config
        self.layer = kind.layer
        self.has_unit_norm = kind.layer.qk_norm == "unit" and not is_cross
        embed, heads, kv_heads = config.embed_dim, config.num_heads, config.kv_heads
        head_dim = config.width_of_head
        query, kv = ("embed", "heads", "head_dim"), ("embed", config.kv_axis, "head_dim")
        shape, kv_shape = (embed, heads, head_dim), (attended_dim or embed, kv_heads, head_dim)
        start = kernel(config, kv_shape[0], heads * head_dim, kv)
        self.query = make_parameter(rngs, shape, query, query_kernel(config, embed, query))
        self.key = make_parameter(rngs, kv_shape, kv, start)
        self.value = make_parameter(rngs, kv_shape, kv, start)
        self.out = make_out(config, rngs, head_dim) if joins_stream else None

        def bias(shape, axes, group):
            return make_parameter(rngs, shape, axes, zeros) if config.has_bias(group) else None

        of_queries = "qv" if config.has_bias("qv") else "qkv"
        self.query_bias = bias(shape[1:], query[1:], of_queries)
        self.key_bias = bias(kv_shape[1:], kv[1:], "qkv")
        self.value_bias = bias(kv_shape[1:], kv[1:], of_queries)
        self.out_bias = bias((embed,), ("embed",), "attention_out") if joins_stream else None

        def norm(shape, axes):
            kind = self.layer.qk_norm
            if is_cross or kind in (None, "unit"):
                return None
            first, num_axes = 2 if kind == "head" else 1, None if kind == "width" else 1
            standardises = kind == "heads_layer"
            return Norm(config, rngs, shape[first:], axes[first:], num_axes, standardises)

        self.query_norm = norm(shape, query)
        self.key_norm = norm(kv_shape, kv)
        self.relative = None if is_cross else make_relative(config, rngs, per_layer=True)
        has_sinks = config.attention_sinks and not is_cross
        self.sinks = make_parameter(rngs, (heads,), ("heads",), zeros) if has_sinks else None

    def __call__(
        self,
        x: jax.Array,
        context: AttentionContext,
        cached: KeyValue | None = None,
        attended: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, KeyValue | None]:
        """Attends.

        Args:
          x: [batch, length, embed].
          context: which keys the queries attend to, and their positions.
          cached: keys and values [batch, kv_heads, capacity, head_dim]: those of a cache, to write
            to and attend over, or all of them where the context has no slots to write to.
          attended: [batch, keys, embed] that keys and values are made from; None: `x`.
          key: of the dropout.

        Returns:
          [batch, length, embed]; the keys and values attended to.
        """
        if cached is None or context.slots is not None:
            attended = x if attended is None else attended
            query, keys, values = self.project(x, attended, context.angles)
            split = spec("batch", self.config.kv_axis, context.keys_length, None)
            key_value = named(reshard(keys, split), "key"), named(reshard(values, split), "value")
            if cached is not None:
                key_value = write_both(cached, key_value, context.slots)
        else:
            query = self._heads(x, self.query, self.query_bias, "heads", self.query_norm)
            key_value = cached
        sinks = None if self.sinks is None else gather(self.sinks, jnp.float32)
        query = named(query, "query")
        mixed = attend_within(self.config, context, query, *key_value, self.relative, key, sinks)
        return report("attention", self.join(mixed)), key_value

    def project(
        self, x: jax.Array, attended: jax.Array, angles: tuple[jax.Array, jax.Array] | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns queries of x, keys and values of what is attended to.

        Args:
          x: [batch, length, embed].
          attended: [batch, keys, dim].
          angles: of rotary positions, where x itself is attended to.

        Returns:
          Three [batch, heads, length, head_dim].
        """
        kv_axis = self.config.kv_axis
        query = self._heads(x, self.query, self.query_bias, "heads", self.query_norm)
        keys = self._heads(attended, self.key, self.key_bias, kv_axis, self.key_norm)
        values = self._heads(attended, self.value, self.value_bias, kv_axis)
        if angles is not None and self.layer.rope is not None:
            query = self.layer.rope.rotate(query, angles)
            keys = self.layer.rope.rotate(keys, angles)
        if self.has_unit_norm:
            epsilon = self.config.norm_epsilon
            query, keys = rms_normalise(query, epsilon), rms_normalise(keys, epsilon)
        return query, keys, values

    def join(self, mixed: jax.Array) -> jax.Array:
        """Maps what heads took, [batch, heads, length, head_dim], to [batch, length, embed]."""
        return project_out(self.config, mixed, self.out, self.out_bias)

    def _heads(self, x, weight, bias, heads, norm=None):
        embed, num_heads, head_dim = weight.shape
        shape, layout = (embed, num_heads * head_dim), spec("batch", "length", heads)
        y = multiply("btd,df->btf", x, weight, layout, self.config.matmul_dtype, shape)
        y = y.reshape(*x.shape[:2], num_heads, head_dim)
        if bias is not None:
            y = y + gather(bias, x.dtype)
        if norm is not None:
            y = norm(y)
        if (clip := self.config.qkv_clip) is not None:
            y = jnp.clip(y, -clip, clip)
        return y.transpose(0, 2, 1, 3)


def query_kernel(config: StackConfig, n_in: int, axes: Axes):
    """Returns the initializer of the matrix to the queries."""
    heads, head_dim = config.num_heads, config.width_of_head
    grown = config.parametrization
    head_at_base = head_dim if grown is None else grown.initial_head(head_dim)
    smaller = head_at_base**-0.5 if config.initialization.query_scaling else 1.0
    return normal(kernel_stddev(config, n_in, heads * head_dim, axes) * smaller)


def make_out(config: StackConfig, rngs: nnx.Rngs, value_dim: int) -> nnx.Param:
    """Returns the projection [heads, value_dim, embed] back to the stream."""
    shape = (config.num_heads, value_dim, config.embed_dim)
    axes = ("heads", "head_dim", "embed")
    start = kernel(config, config.num_heads * value_dim, config.embed_dim, axes, into_stream=True)
    return make_parameter(rngs, shape, axes, start)


def make_relative(config: StackConfig, rngs: nnx.Rngs, per_layer: bool) -> nnx.Param | None:
    """Returns the biases' table [rows, heads] of a layer or a stack, if that is where it is."""
    bias = config.position_bias
    if bias is None or not bias.num_rows or bias.per_layer != per_layer:
        return None
    shape = (bias.num_rows, config.num_heads)
    axes = (None, "heads")
    # Begun like a matrix of the stream's width, which for a wider model is still the base's.
    width = config.embed_dim / config.width_factor
    start = normal(config.initialization.kernel_stddev(width, width))
    return make_parameter(rngs, shape, axes, start)


def attend_within(
    config: StackConfig,
    context: AttentionContext,
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    relative: nnx.Param | None = None,
    key: jax.Array | None = None,
    sinks: jax.Array | None = None,
) -> jax.Array:
    """Returns what [batch, heads, length, head_dim] queries take from the values."""
    scale = attention_scale(config, query.shape[-1]) * context.logit_factor
    if context.temperature is not None:
        query = (query * context.temperature[:, None, :, None]).astype(query.dtype)
    mixed = attend(
        AttentionCall(
            query * scale,
            keys,
            values,
            context.mask,
            with_table(context.bias, relative),
            config.attention_soft_cap,
            config.attention_dropout,
            key,
            sinks,
        )
    )
    return named(mixed, "attention")


def attention_scale(config: StackConfig, head_dim: int) -> float:
    """Returns the factor on logits: the base's, falling as 1 / head_dim where heads grow."""
    grown = config.parametrization
    at_base = head_dim if grown is None else grown.initial_head(head_dim)
    scale = at_base**-0.5 if config.attention_scale is None else config.attention_scale
    return scale * (at_base / head_dim)


def project_out(config: StackConfig, mixed, weight, bias) -> jax.Array:
    """Maps [batch, heads, length, head_dim] to [batch, length, embed]."""
    batch, heads, length, head_dim = mixed.shape
    shape = heads * head_dim, weight.shape[-1]
    mixed = mixed.transpose(0, 2, 1, 3).reshape(batch, length, heads * head_dim)
    layout = spec("batch", "length", None)
    y = multiply("btf,fd->btd", mixed, weight, layout, config.matmul_dtype, shape)
    return y if bias is None else y + gather(bias, mixed.dtype)
