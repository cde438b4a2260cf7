"""One block: attention and a feed-forward, each behind a norm and added to the stream."""

from __future__ import annotations

import jax
from flax import nnx

from jaxgen.models.attention import Attention
from jaxgen.models.config import BlockKind, TransformerConfig
from jaxgen.models.feedforward import FeedForward
from jaxgen.models.moe import MoE
from jaxgen.models.norms import Norm
from jaxgen.models.routing import RouterStatistics
from jaxgen.sharding.rules import Rules


class Block(nnx.Module):
    """A pre-norm block, its feed-forward dense or a mixture of experts."""

    def __init__(self, kind: BlockKind, config: TransformerConfig, rngs: nnx.Rngs, rules: Rules):
        self.attention_norm = Norm(config, rngs, rules)
        self.attention = Attention(config, rngs, rules)
        self.feed_forward_norm = Norm(config, rngs, rules)
        self.feed_forward = (MoE if kind == "moe" else FeedForward)(config, rngs, rules)

    def __call__(
        self,
        x: jax.Array,
        segment_ids: jax.Array,
        visible: jax.Array,
        angles,
        cached=None,
        slots=None,
    ) -> tuple[jax.Array, RouterStatistics | None, tuple[jax.Array, jax.Array] | None]:
        """[batch, length, embed] -> the same, the router's statistics, the written cache.

        The other arguments are those of `Attention`; `segment_ids` [batch, length] tells a sparse
        layer which tokens are padding.
        """
        mixed, cached = self.attention(self.attention_norm(x), visible, angles, cached, slots)
        x = x + mixed
        normed = self.feed_forward_norm(x)
        if isinstance(self.feed_forward, MoE):
            fed, statistics = self.feed_forward(normed, segment_ids)
        else:
            fed, statistics = self.feed_forward(normed), None
        return x + fed, statistics, cached
