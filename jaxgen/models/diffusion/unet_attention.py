"""Attention of pixels: to one another, to a sequence, to both at once, and in transformers."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.block import Block
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.context import AttentionContext, EncoderOutput
from jaxgen.models.diffusion.embedders import Linear
from jaxgen.models.diffusion.unet_blocks import START, GroupNorm
from jaxgen.models.diffusion.unet_config import AttentionKind, UNetConfig
from jaxgen.models.parameters import gather, make_parameter, project
from jaxgen.models.stack_config import BlockKind, StackConfig
from jaxgen.ops.attention.attend import attend
from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.masks import AttentionMask, AttentionSide, Bidirectional, attention_side
from jaxgen.ops.dropout import split
from jaxgen.ops.initializers import normal, zeros
from jaxgen.ops.linear import linear
from jaxgen.ops.patches import reshape_rows
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import reshard

TRANSFORMER_EPSILON = 1e-6
_LAYER = LayerConfig(mask=(Bidirectional(),), rope=None)


class Sequence(NamedTuple):
    """A sequence that pixels attend to.

    Attributes:
      hidden: [batch, length, context_dim].
      segment_ids: [batch, length] int32: 1, or 0 of a token that is not there.
    """

    hidden: Any
    segment_ids: Any


class PixelAttention(nnx.Module):
    """Group norm, attention of pixels to pixels, to a sequence, or to both, added to the stream."""

    def __init__(
        self,
        channels: int,
        heads: tuple[int, int],
        rngs: nnx.Rngs,
        *,
        groups: int,
        epsilon: float,
        context_dim: int | None = None,
        reads_pixels: bool = True,
    ):
        """Makes the projections; `heads` are their number and their width."""
        self.group_norm = GroupNorm(channels, groups, epsilon, rngs)
        of_heads = heads_axis(heads[0])

        def projection(n_in: int | None) -> tuple[nnx.Param | None, nnx.Param | None]:
            if n_in is None:
                return None, None
            axes = ("embed", of_heads, "head_dim")
            weight = make_parameter(rngs, (n_in, *heads), axes, normal(n_in**-0.5))
            return weight, make_parameter(rngs, heads, axes[1:], zeros)

        pixels = channels if reads_pixels else None
        self.query, self.query_bias = projection(channels)
        self.key, self.key_bias = projection(pixels)
        self.value, self.value_bias = projection(pixels)
        self.context_key, self.context_key_bias = projection(context_dim)
        self.context_value, self.context_value_bias = projection(context_dim)
        self.out = make_parameter(rngs, (*heads, channels), (of_heads, "head_dim", "embed"), zeros)
        self.out_bias = make_parameter(rngs, (channels,), ("embed",), zeros)

    def __call__(
        self, x: jax.Array, sequence: Sequence | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """Maps [batch, height, width, channels] to the same; `key` is not used."""
        del key
        pixels = _as_row(self.group_norm(x))
        side = side_of(pixels)
        keys, values, ids = [], [], []
        if self.key is not None:
            keys.append(_heads(pixels, self.key, self.key_bias))
            values.append(_heads(pixels, self.value, self.value_bias))
            ids.append(side.segment_ids)
        if self.context_key is not None and sequence is not None:
            keys.append(_heads(sequence.hidden, self.context_key, self.context_key_bias))
            values.append(_heads(sequence.hidden, self.context_value, self.context_value_bias))
            ids.append(sequence.segment_ids)
        query = _heads(pixels, self.query, self.query_bias)
        attended = side if len(ids) == 1 and self.key is not None else _side(_joined(ids, 1))
        mask = AttentionMask((), side, attended, same_tokens=attended is side)
        scale = query.shape[-1] ** -0.5
        mixed = attend(AttentionCall(query * scale, _joined(keys, 2), _joined(values, 2), mask))
        batch, heads, length, head_dim = mixed.shape
        mixed = mixed.transpose(0, 2, 1, 3).reshape(batch, length, heads * head_dim)
        out = gather(self.out, x.dtype).reshape(heads * head_dim, -1)
        y = linear("btf,fd->btd", mixed, out, spec("batch", "length", None))
        return x + reshape_rows(y + gather(self.out_bias, x.dtype), *x.shape)


class SpatialTransformer(nnx.Module):
    """A transformer over pixels that attends to a sequence too (2112.10752, 3.3)."""

    def __init__(self, config: UNetConfig, channels: int, depth: int, rngs: nnx.Rngs):
        stack = transformer_stack(config, channels, depth)
        inner = stack.embed_dim
        self.norm = GroupNorm(channels, config.norm_groups, TRANSFORMER_EPSILON, rngs)
        self.first = Linear(channels, inner, START, rngs)
        kind = BlockKind(_LAYER, False)
        self.blocks = nnx.List([Block(kind, stack, rngs, config.context_dim) for _ in range(depth)])
        # The transformer begins as the identity.
        self.last = make_parameter(rngs, (inner, channels), (None, "embed"), zeros)
        self.last_bias = make_parameter(rngs, (channels,), ("embed",), zeros)

    def __call__(
        self, x: jax.Array, sequence: Sequence | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """Maps [batch, height, width, channels] to the same; `key` is of the dropout."""
        y = self.first(_as_row(self.norm(x)))
        side = side_of(y)
        context = AttentionContext(AttentionMask((), side, side, same_tokens=True))
        encoder = None
        if sequence is not None:
            keys = _side(sequence.segment_ids)
            to_sequence = AttentionContext(AttentionMask((), side, keys))
            encoder = EncoderOutput(sequence.hidden, to_sequence)
        tokens = RoutedTokens(side.segment_ids)
        for block, own in zip(self.blocks, split(key, len(self.blocks)), strict=True):
            y = block(y, tokens, context, encoder=encoder, key=own)[0]
        return x + reshape_rows(project(y, self.last, self.last_bias), *x.shape)


def make_attention(
    config: UNetConfig, kind: AttentionKind, channels: int, depth: int, rngs: nnx.Rngs
) -> PixelAttention | SpatialTransformer:
    """Returns an attention of a kind in so many channels."""
    if kind == "transformer":
        return SpatialTransformer(config, channels, depth, rngs)
    return PixelAttention(
        channels,
        config.heads(channels),
        rngs,
        groups=config.norm_groups,
        epsilon=config.norm_epsilon,
        context_dim=None if kind == "self" else config.context_dim,
        reads_pixels=kind != "cross",
    )


def transformer_stack(config: UNetConfig, channels: int, depth: int) -> StackConfig:
    """Returns what the blocks of a spatial transformer are."""
    heads, head_dim = config.heads(channels)
    inner = heads * head_dim
    return StackConfig(
        num_layers=depth,
        embed_dim=inner,
        num_heads=heads,
        head_dim=head_dim,
        mlp_dim=4 * inner,
        layers=(_LAYER,),
        norm="layer",
        norm_epsilon=1e-5,
        activation="gelu",
        biases=("attention_out", "feed_forward", "norm"),
        dropout=config.dropout,
        compute_dtype=config.compute_dtype,
    )


def heads_axis(heads: int) -> str | None:
    """Returns the logical axis of the heads; a single one is whole everywhere."""
    return "heads" if heads > 1 else None


def side_of(pixels: jax.Array) -> AttentionSide:
    """Returns the side of an attention mask that a row [batch, length, ...] of pixels is."""
    return _side(reshard(jnp.ones(pixels.shape[:2], jnp.int32), spec("batch", None)))


def _side(segment_ids: jax.Array) -> AttentionSide:
    places = jnp.broadcast_to(jnp.arange(segment_ids.shape[1], dtype=jnp.int32), segment_ids.shape)
    return attention_side(reshard(places, spec("batch", None)), segment_ids)


def _as_row(x: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    return reshape_rows(x, batch, height * width, channels)


def _heads(x: jax.Array, weight: Any, bias: Any) -> jax.Array:
    """Returns [batch, heads, length, head_dim] of [batch, length, channels]."""
    channels, heads, head_dim = weight.shape
    flat = gather(weight, x.dtype).reshape(channels, heads * head_dim)
    y = linear("btd,df->btf", x, flat, spec("batch", "length", heads_axis(heads)))
    y = y.reshape(*x.shape[:2], heads, head_dim) + gather(bias, x.dtype)
    return y.transpose(0, 2, 1, 3)


def _joined(parts: list[Any], axis: int) -> jax.Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=axis)
