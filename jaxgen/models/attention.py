"""Multi-head attention with grouped key and value heads (GQA, 2305.13245; MQA, 1911.02150)."""

from __future__ import annotations

import jax
from flax import nnx

from jaxgen.models.cache import Pair
from jaxgen.models.config import BlockKind, TransformerConfig
from jaxgen.models.context import View
from jaxgen.models.norms import Norm, rms_normalise
from jaxgen.models.parameters import gather, kernel, kernel_stddev, make_parameter
from jaxgen.models.parametrization import Axes
from jaxgen.ops.initializers import normal, zeros
from jaxgen.ops.linear import linear
from jaxgen.ops.positions import RelativeBias
from jaxgen.ops.slots import write
from jaxgen.ops.softmax_attention import attend
from jaxgen.sharding.layout import length_is_whole, spec
from jaxgen.sharding.rules import reshard


class Attention(nnx.Module):
    """Projections to heads, attention, projection back."""

    def __init__(
        self,
        kind: BlockKind,
        config: TransformerConfig,
        rngs: nnx.Rngs,
        is_cross: bool = False,
    ):
        self.config = config
        self.layer = kind.layer
        embed, heads, kv_heads = config.embed_dim, config.num_heads, config.kv_heads
        head_dim = config.width_of_head
        query, kv = ("embed", "heads", "head_dim"), ("embed", config.kv_axis, "head_dim")
        shape, kv_shape = (embed, heads, head_dim), (embed, kv_heads, head_dim)
        start = kernel(config, embed, heads * head_dim, kv)
        self.query = make_parameter(rngs, shape, query, query_kernel(config, embed, query))
        self.key = make_parameter(rngs, kv_shape, kv, start)
        self.value = make_parameter(rngs, kv_shape, kv, start)
        self.out = make_out(config, rngs, head_dim)

        def bias(shape, axes, group):
            wanted = config.has_bias(group)
            return make_parameter(rngs, shape, axes, zeros) if wanted else None

        self.query_bias = bias(shape[1:], query[1:], "qkv")
        self.key_bias = bias(kv_shape[1:], kv[1:], "qkv")
        self.value_bias = bias(kv_shape[1:], kv[1:], "qkv")
        self.out_bias = bias((embed,), ("embed",), "attention_out")

        def norm(shape, axes):
            if is_cross or self.layer.qk_norm in (None, "unit"):
                return None
            first = 1 if self.layer.qk_norm == "head" else 0
            return Norm(config, rngs, shape[1:][first:], axes[1:][first:])

        self.query_norm = norm(shape, query)
        self.key_norm = norm(kv_shape, kv)
        self.relative = None if is_cross else make_relative(config, rngs, per_layer=True)

    def __call__(
        self,
        x: jax.Array,
        view: View,
        cached: Pair | None = None,
        source: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, Pair | None]:
        """Attends.

        Args:
          x: [batch, length, embed].
          view: what is visible, and where.
          cached: keys and values [batch, kv_heads, capacity, head_dim]: those of a cache, to write
            to and attend over, or all of them where the view has no slots to write to.
          source: [batch, keys, embed] that keys and values are made from; None: `x`.
          key: of the dropout.

        Returns:
          [batch, length, embed]; the keys and values attended to.
        """
        query = self._heads(x, self.query, self.query_bias, "heads", self.query_norm)
        if cached is None or view.slots is not None:
            source = x if source is None else source
            keys = self._heads(source, self.key, self.key_bias, self.config.kv_axis, self.key_norm)
            values = self._heads(source, self.value, self.value_bias, self.config.kv_axis)
            if view.angles is not None and self.layer.rope is not None:
                query = self.layer.rope.rotate(query, view.angles)
                keys = self.layer.rope.rotate(keys, view.angles)
            if self.layer.qk_norm == "unit" and view.is_self:
                epsilon = self.config.norm_epsilon
                query, keys = rms_normalise(query, epsilon), rms_normalise(keys, epsilon)
            whole = spec("batch", self.config.kv_axis, None, None)
            pair = reshard(keys, whole), reshard(values, whole)
            if cached is not None:
                pair = write(cached[0], pair[0], view.slots), write(cached[1], pair[1], view.slots)
        else:
            pair = cached
        mixed = attend_within(self.config, view, query, *pair, self.relative, key)
        return project_out(mixed, self.out, self.out_bias), pair

    def _heads(self, x, weight, bias, heads, norm=None):
        embed, num_heads, head_dim = weight.shape
        flat = gather(weight, x.dtype).reshape(embed, num_heads * head_dim)
        y = linear("btd,df->btf", x, flat, spec("batch", "length", heads))
        y = y.reshape(*x.shape[:2], num_heads, head_dim)
        if bias is not None:
            y = y + gather(bias, x.dtype)
        if norm is not None:
            y = norm(y)
        return y.transpose(0, 2, 1, 3)


def query_kernel(config: TransformerConfig, n_in: int, axes: Axes):
    """How the matrix to the queries begins."""
    heads, head_dim = config.num_heads, config.width_of_head
    grown = config.parametrization
    head_at_base = head_dim if grown is None else grown.initial_head(head_dim)
    smaller = head_at_base**-0.5 if config.initialization.query_scaling else 1.0
    return normal(kernel_stddev(config, n_in, heads * head_dim, axes) * smaller)


def make_out(config: TransformerConfig, rngs: nnx.Rngs, value_dim: int) -> nnx.Param:
    """The projection [heads, value_dim, embed] back to the stream."""
    shape = (config.num_heads, value_dim, config.embed_dim)
    axes = ("heads", "head_dim", "embed")
    start = kernel(config, config.num_heads * value_dim, config.embed_dim, axes, into_stream=True)
    return make_parameter(rngs, shape, axes, start)


def make_relative(config: TransformerConfig, rngs: nnx.Rngs, per_layer: bool) -> nnx.Param | None:
    """The biases [buckets, heads] of a layer or of a stack, if that is where they are learned."""
    bias = config.position_bias
    if not isinstance(bias, RelativeBias) or bias.per_layer != per_layer:
        return None
    shape = (bias.num_buckets, config.num_heads)
    axes = (None, "heads")
    # Begun like a matrix of the stream's width, which for a wider model is still the base's.
    width = config.embed_dim / config.width_factor
    start = normal(config.initialization.kernel_stddev(width, width))
    return make_parameter(rngs, shape, axes, start)


def attend_within(
    config: TransformerConfig,
    view: View,
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    relative: nnx.Param | None = None,
    key: jax.Array | None = None,
) -> jax.Array:
    """Attention of [batch, heads, length, head_dim] queries in a view of the keys."""
    scale = attention_scale(config, query.shape[-1]) * view.logit_factor
    if view.temperature is not None:
        query = (query * view.temperature[:, None, :, None]).astype(query.dtype)
    bias = view.bias if relative is None else view.relative_bias(relative)
    in_order = view.slots is None and view.is_self and not view.looks_ahead
    return attend(
        query * scale,
        keys,
        values,
        view.visible,
        bias,
        config.attention_soft_cap,
        in_order=in_order and length_is_whole(),
        dropout_rate=config.attention_dropout,
        dropout_key=key,
    )


def attention_scale(config: TransformerConfig, head_dim: int) -> float:
    """On the logits of attention: the base's, and falling as 1 / head_dim where heads grow."""
    grown = config.parametrization
    at_base = head_dim if grown is None else grown.initial_head(head_dim)
    scale = at_base**-0.5 if config.attention_scale is None else config.attention_scale
    return scale * (at_base / head_dim)


def project_out(mixed, weight, bias) -> jax.Array:
    """[batch, heads, length, head_dim] -> [batch, length, embed]."""
    batch, heads, length, head_dim = mixed.shape
    out = gather(weight, mixed.dtype).reshape(heads * head_dim, -1)
    mixed = mixed.transpose(0, 2, 1, 3).reshape(batch, length, heads * head_dim)
    y = linear("btf,fd->btd", mixed, out, spec("batch", "length", None))
    return y if bias is None else y + gather(bias, mixed.dtype)
