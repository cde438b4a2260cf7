"""One block: attention, perhaps to a source too, and a feed-forward, each added to the stream."""

from __future__ import annotations

import jax
from flax import nnx

from jaxgen.models.attention import Attention
from jaxgen.models.cache import Pair
from jaxgen.models.config import BlockKind, TransformerConfig
from jaxgen.models.context import View
from jaxgen.models.feedforward import FeedForward
from jaxgen.models.latent_attention import LatentAttention
from jaxgen.models.moe import MoE
from jaxgen.models.norms import Norm
from jaxgen.ops.dropout import dropout, split
from jaxgen.ops.routing import RouterStatistics


class Block(nnx.Module):
    """Where the norms stand, and what the feed-forward is, the configuration says."""

    def __init__(
        self,
        kind: BlockKind,
        config: TransformerConfig,
        rngs: nnx.Rngs,
        has_source: bool = False,
    ):
        self.config = config
        self.layer = kind.layer
        self.is_sparse = kind.is_sparse
        before = config.norm_placement in ("pre", "both")
        after = config.norm_placement != "pre"

        def norm(wanted: bool) -> Norm | None:
            return Norm(config, rngs) if wanted else None

        self.attention_norm = norm(before)
        self.attention = (
            Attention(kind, config, rngs)
            if config.latent is None
            else LatentAttention(kind, config, config.latent, rngs)
        )
        self.attention_post_norm = norm(after)
        self.cross_norm = norm(before and has_source)
        self.cross_attention = Attention(kind, config, rngs, is_cross=True) if has_source else None
        self.cross_post_norm = norm(after and has_source)
        self.feed_forward_norm = norm(before and not config.parallel)
        self.feed_forward = (MoE if kind.is_sparse else FeedForward)(config, rngs)
        self.feed_forward_post_norm = norm(after)

    def __call__(
        self,
        x: jax.Array,
        segment_ids: jax.Array,
        view: View,
        cached: Pair | None = None,
        source: jax.Array | None = None,
        source_view: View | None = None,
        source_cached: Pair | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, RouterStatistics | None, Pair | None, Pair | None]:
        """[batch, length, embed] -> the same, the router's statistics, both written pairs.

        Args:
          x: the stream.
          segment_ids: [batch, length] int32; 0 is padding, which no expert takes.
          view: of the tokens themselves.
          cached: keys and values of a cache for them.
          source: [batch, source length, embed], an encoder's output.
          source_view: of the source.
          source_cached: the source's keys and values, where they were computed before.
          key: of a training pass; None: the model as it is used.
        """
        keys = split(key, 6)
        normed = x if self.attention_norm is None else self.attention_norm(x)
        mixed, cached = self.attention(normed, view, cached, key=keys[0])
        if self.config.parallel:
            fed, statistics = self._feed(normed, segment_ids, keys[1])
            return self._add(x, mixed + fed, None, keys[2]), statistics, cached, None
        x = self._add(x, mixed, self.attention_post_norm, keys[2])
        if self.cross_attention is not None and source_view is not None:
            normed = x if self.cross_norm is None else self.cross_norm(x)
            mixed, source_cached = self.cross_attention(
                normed, source_view, source_cached, source, keys[3]
            )
            x = self._add(x, mixed, self.cross_post_norm, keys[4])
        normed = x if self.feed_forward_norm is None else self.feed_forward_norm(x)
        fed, statistics = self._feed(normed, segment_ids, keys[1])
        x = self._add(x, fed, self.feed_forward_post_norm, keys[5])
        return x, statistics, cached, source_cached

    def _feed(self, x, segment_ids, key):
        if isinstance(self.feed_forward, MoE):
            return self.feed_forward(x, segment_ids, is_training=key is not None)
        return self.feed_forward(x, key), None

    def _add(self, x, y, norm, key):
        if self.config.norm_placement == "post":
            return norm(x + dropout(y, self.config.dropout, key))
        y = dropout(y if norm is None else norm(y), self.config.dropout, key)
        factor = self.config.branch_factor
        return x + (y if factor == 1 else y * factor)
