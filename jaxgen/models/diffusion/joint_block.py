"""A block of two streams, a picture's and a text's, that attend to both together."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.attention import Attention, attend_within
from jaxgen.models.context import AttentionContext
from jaxgen.models.diffusion.mmdit_config import JointKind, MMDiTConfig
from jaxgen.models.feedforward import FeedForward
from jaxgen.models.modulation import Modulation, gated, shifted
from jaxgen.models.norms import Norm
from jaxgen.models.parameters import gather, kernel, make_parameter
from jaxgen.models.stack_config import BlockKind, StackConfig
from jaxgen.ops.activations import activation
from jaxgen.ops.attention.masks import AttentionMask, AttentionSide
from jaxgen.ops.initializers import zeros
from jaxgen.ops.linear import linear
from jaxgen.ops.rematerialisation import named
from jaxgen.ops.taps import report
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import reshard


class Streams(NamedTuple):
    """A picture and a text, [batch, length, embed] each."""

    picture: jax.Array
    text: jax.Array


class JointContext(NamedTuple):
    """What attention goes by: that of both streams, of the picture to both, and to itself.

    Rotary angles are those of the picture alone, or of both where a text has angles of 0.
    """

    both: AttentionContext
    picture: AttentionContext
    alone: AttentionContext


def make_joint_context(
    picture: AttentionSide, text: AttentionSide, angles: tuple[jax.Array, jax.Array] | None
) -> JointContext:
    """Returns the contexts of a picture, whose rotary angles may be given, and a text."""
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), picture, text)
    of_both = None
    if angles is not None:
        pad = ((0, 0), (0, text.positions.shape[1]), (0, 0))
        cosine, sine = angles
        of_both = jnp.pad(cosine, pad, constant_values=1), jnp.pad(sine, pad)

    def context(queries, keys, turned):
        return AttentionContext(AttentionMask((), queries, keys), angles=turned)

    return JointContext(
        context(both, both, of_both),
        context(picture, both, angles),
        context(picture, picture, angles),
    )


class JointBlock(nnx.Module):
    """Attention of two streams with weights of their own, and a feed-forward of each."""

    def __init__(self, kind: JointKind, config: MMDiTConfig, rngs: nnx.Rngs):
        self.kind = kind
        self.stack = config.stack
        self.picture = _Stream(config, rngs, 9 if kind.is_dual else 6)
        self.text = _Stream(config, rngs, 2 if kind.is_last else 6)
        self.alone = _attention(config, rngs) if kind.is_dual else None

    def __call__(self, streams: Streams, context: JointContext, vector: jax.Array) -> Streams:
        """Maps both streams; a last block leaves the text as it is.

        Args:
          streams: the picture and the text.
          context: of their tokens.
          vector: [batch, 1, embed], what modulates the block.
        """
        picture, text = streams
        shift, scale, gate, *more = self.picture.modulation(vector)
        normed = self.picture.attention_norm(picture)
        if self.kind.is_last:
            text_scale, text_shift = self.text.modulation(vector)
            text_gate = text_more = None
        else:
            text_shift, text_scale, text_gate, *text_more = self.text.modulation(vector)
        read = shifted(normed, shift, scale)
        text_read = shifted(self.text.attention_norm(text), text_shift, text_scale)
        mixed, text_mixed = self._attend(read, text_read, context)
        picture = picture + gated(mixed, gate)
        if self.alone is not None:
            shift, scale, gate = more[3:]
            mixed, _ = self.alone(shifted(normed, shift, scale), context.alone)
            picture = picture + gated(mixed, gate)
        picture = self.picture.feed(picture, *more[:3])
        if text_mixed is not None and text_more is not None:
            text = self.text.feed(text + gated(text_mixed, text_gate), *text_more)
        return Streams(report("stream", picture), text)

    def _attend(
        self, picture: jax.Array, text: jax.Array, context: JointContext
    ) -> tuple[jax.Array, jax.Array | None]:
        """Returns what the streams take of both; None for a text that is left after this."""
        stack = self.stack
        turned = context.picture.angles
        query, *seen = self.picture.attention.project(picture, picture, turned)
        text_query, *text_seen = self.text.attention.project(text, text)
        split = spec("batch", stack.kv_axis, None, None)
        keys, values = (
            named(reshard(jnp.concatenate(pair, axis=2), split), name)
            for name, pair in zip(("key", "value"), zip(seen, text_seen, strict=True), strict=True)
        )
        length = picture.shape[1]
        if self.kind.is_last:
            mixed = attend_within(stack, context.picture, named(query, "query"), keys, values)
            return self._joined(self.picture.attention, mixed), None
        query = named(jnp.concatenate([query, text_query], axis=2), "query")
        mixed = attend_within(stack, context.both, query, keys, values)
        return (
            self._joined(self.picture.attention, mixed[:, :, :length]),
            self._joined(self.text.attention, mixed[:, :, length:]),
        )

    @staticmethod
    def _joined(attention: Attention, mixed: jax.Array) -> jax.Array:
        return report("attention", named(attention.join(mixed), "attention_out"))


class SingleBlock(nnx.Module):
    """Attention and a feed-forward of one stream, which read the same and are added together."""

    def __init__(self, config: MMDiTConfig, rngs: nnx.Rngs):
        stack, embed = config.stack, config.stack.embed_dim
        self.stack = stack
        self.norm = Norm(stack, rngs)
        self.attention = _attention(config, rngs, joins_stream=False)
        inner, into = stack.num_heads * stack.width_of_head, ("embed", "mlp")
        up, down = kernel(stack, embed, stack.mlp_dim, into), (stack.mlp_dim, embed)
        self.up = make_parameter(rngs, (embed, stack.mlp_dim), into, up)
        self.up_bias = make_parameter(rngs, (stack.mlp_dim,), ("mlp",), zeros)
        start = kernel(stack, inner + stack.mlp_dim, embed, into[::-1], into_stream=True)
        self.out = make_parameter(rngs, (inner, embed), ("heads", "embed"), start)
        self.down = make_parameter(rngs, down, ("mlp", "embed"), start)
        self.out_bias = make_parameter(rngs, (embed,), ("embed",), zeros)
        self.modulation = Modulation(embed, embed, 3, rngs)

    def __call__(self, x: jax.Array, context: AttentionContext, vector: jax.Array) -> jax.Array:
        """Maps [batch, length, embed] to the same; `vector` modulates."""
        shift, scale, gate = self.modulation(vector)
        normed, dtype = shifted(self.norm(x), shift, scale), self.stack.matmul_dtype
        query, keys, values = self.attention.project(normed, normed, context.angles)
        mixed = attend_within(
            self.stack, context, named(query, "query"), named(keys, "key"), named(values, "value")
        )
        batch, heads, length, width = mixed.shape
        flat = mixed.transpose(0, 2, 1, 3).reshape(batch, length, heads * width)
        wide, narrow = spec("batch", None, "mlp"), spec("batch", None, None)
        hidden = linear("btd,df->btf", normed, gather(self.up, x.dtype), wide, dtype)
        hidden = activation(self.stack.activation)(hidden + gather(self.up_bias, x.dtype))
        y = linear("btf,fd->btd", flat, gather(self.out, x.dtype), narrow, dtype)
        y = y + linear("btf,fd->btd", hidden, gather(self.down, x.dtype), narrow, dtype)
        y = y + gather(self.out_bias, x.dtype)
        return report("stream", x + gated(named(y, "feed_forward"), gate))


class _Stream(nnx.Module):
    """The weights of one stream in a block, modulated by as many vectors as are named."""

    def __init__(self, config: MMDiTConfig, rngs: nnx.Rngs, parts: int):
        stack, goes_on = config.stack, parts > 2
        self.attention_norm = Norm(stack, rngs)
        self.attention = _attention(config, rngs, goes_on)
        self.feed_forward_norm = Norm(stack, rngs) if goes_on else None
        self.feed_forward = FeedForward(stack, rngs) if goes_on else None
        self.modulation = Modulation(stack.embed_dim, stack.embed_dim, parts, rngs)

    def feed(self, x: jax.Array, shift: jax.Array, scale: jax.Array, gate: jax.Array) -> jax.Array:
        """Returns the stream after its feed-forward."""
        assert self.feed_forward_norm is not None
        assert self.feed_forward is not None
        normed = shifted(self.feed_forward_norm(x), shift, scale)
        return x + gated(named(self.feed_forward(normed), "feed_forward"), gate)


def _attention(config: MMDiTConfig, rngs: nnx.Rngs, joins_stream: bool = True) -> Attention:
    """Returns attention whose queries and keys have RMS norms with a scale, if they have norms."""
    stack: StackConfig = config.stack
    layer = stack.layers[0]
    if config.qk_norm:
        layer = dataclasses.replace(layer, qk_norm="head")
        stack = dataclasses.replace(
            stack, layers=(layer,), norm="rms", norm_scale=True, norm_unit_offset=False
        )
    return Attention(BlockKind(layer, False), stack, rngs, joins_stream=joins_stream)
