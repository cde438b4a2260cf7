"""One block: attention, perhaps cross-attention, and a feed-forward, each added to the stream."""

from __future__ import annotations

import dataclasses

import jax
from flax import nnx

from jaxgen.models.adapter_dropout import dropping
from jaxgen.models.attention import Attention
from jaxgen.models.cache import KeyValue
from jaxgen.models.context import AttentionContext, EncoderOutput
from jaxgen.models.feedforward import FeedForward
from jaxgen.models.latent_attention import LatentAttention
from jaxgen.models.modulation import Modulation, ModulationConfig, gated, shifted
from jaxgen.models.moe import MoE
from jaxgen.models.norms import Norm
from jaxgen.models.stack_config import BlockKind, StackConfig
from jaxgen.ops.dropout import dropout, split
from jaxgen.ops.rematerialisation import named
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.ops.routing import RouterStatistics
from jaxgen.ops.taps import report

ADAPTERS = 1000
"""Folded into the key of a pass for what adapters drop."""


class Block(nnx.Module):
    """A block, whose configuration decides where its norms are and what its feed-forward is."""

    def __init__(
        self,
        kind: BlockKind,
        config: StackConfig,
        rngs: nnx.Rngs,
        attended_dim: int | None = None,
        modulation: ModulationConfig | None = None,
    ):
        self.config = config
        self.layer = kind.layer
        self.is_sparse = kind.is_sparse
        is_cross = attended_dim is not None
        before = config.norm_placement in ("pre", "both")
        after = config.norm_placement != "pre"

        def norm(is_there: bool, epsilon: float | None = None) -> Norm | None:
            own = config if epsilon is None else dataclasses.replace(config, norm_epsilon=epsilon)
            return Norm(own, rngs) if is_there else None

        self.attention_norm = norm(before)
        self.attention = (
            Attention(kind, config, rngs)
            if config.latent is None
            else LatentAttention(kind, config, config.latent, rngs)
        )
        self.attention_post_norm = norm(after)
        self.cross_norm = norm(before and is_cross)
        self.cross_attention = Attention(kind, config, rngs, attended_dim) if is_cross else None
        self.cross_post_norm = norm(after and is_cross)
        self.feed_forward_norm = norm(
            before and (not config.parallel or config.parallel_norms > 1),
            None if modulation is None else modulation.feed_forward_epsilon,
        )
        self.feed_forward = (MoE if kind.is_sparse else FeedForward)(config, rngs)
        self.feed_forward_post_norm = norm(after)
        self.modulation = (
            None if modulation is None else Modulation(modulation.dim, config.embed_dim, 6, rngs)
        )

    def __call__(
        self,
        x: jax.Array,
        tokens: RoutedTokens,
        context: AttentionContext,
        cached: KeyValue | None = None,
        encoder: EncoderOutput | None = None,
        cross_cached: KeyValue | None = None,
        key: jax.Array | None = None,
        vector: jax.Array | None = None,
    ) -> tuple[jax.Array, RouterStatistics | None, KeyValue | None, KeyValue | None]:
        """Maps [batch, length, embed] to the same, the router's statistics, keys and values.

        Args:
          x: the stream.
          tokens: what a router knows of them.
          context: of self-attention.
          cached: keys and values of a cache for it.
          encoder: what cross-attention attends to.
          cross_cached: keys and values of cross-attention, where they were computed before.
          key: of a training pass; None: the model as it is used.
          vector: [batch, 1, dim], what a modulated block is told of each row.
        """
        with dropping(None if key is None else jax.random.fold_in(key, ADAPTERS)):
            return self._run(
                x, tokens, context, cached, encoder, cross_cached, split(key, 6), vector
            )

    def _run(self, x, tokens, context, cached, encoder, cross_cached, keys, vector):
        shift = scale = gate = wide_shift = wide_scale = wide_gate = None
        if self.modulation is not None:
            assert vector is not None
            shift, scale, gate, wide_shift, wide_scale, wide_gate = self.modulation(vector)
        normed = x if self.attention_norm is None else self.attention_norm(x)
        normed = shifted(normed, shift, scale)
        mixed, cached = self.attention(normed, context, cached, key=keys[0])
        mixed = named(mixed, "attention_out")
        if self.config.parallel:
            normed = normed if self.feed_forward_norm is None else self.feed_forward_norm(x)
            fed, statistics = self.feed_forward.feed(normed, tokens, keys[1])
            x = self._add(x, mixed + named(fed, "feed_forward"), None, keys[2])
            return report("stream", x), statistics, cached, None
        x = self._add(x, gated(mixed, gate), self.attention_post_norm, keys[2])
        if self.cross_attention is not None and encoder is not None:
            normed = x if self.cross_norm is None else self.cross_norm(x)
            mixed, cross_cached = self.cross_attention(
                normed, encoder.context, cross_cached, encoder.hidden, keys[3]
            )
            x = self._add(x, mixed, self.cross_post_norm, keys[4])
        normed = x if self.feed_forward_norm is None else self.feed_forward_norm(x)
        normed = shifted(normed, wide_shift, wide_scale)
        fed, statistics = self.feed_forward.feed(normed, tokens, keys[1])
        fed = gated(named(fed, "feed_forward"), wide_gate)
        x = self._add(x, fed, self.feed_forward_post_norm, keys[5])
        return report("stream", x), statistics, cached, cross_cached

    def _add(self, x, y, norm, key):
        is_post = self.config.norm_placement == "post"
        y = dropout(y if norm is None or is_post else norm(y), self.config.dropout, key)
        factor = self.config.branch_factor
        x = x + (y if factor == 1 else y * factor)
        return x if norm is None or not is_post else norm(x)
