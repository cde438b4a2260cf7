"""Multi-token prediction (DeepSeek-V3, 2412.19437, 2.2): modules that predict further tokens.

Module k joins what stands at position i for the k tokens after it: the hidden state of the module
before it (of the model, for the first) and the embedding of token i + k. A block makes of both the
hidden state from which the model's own head predicts token i + k + 1. Only training uses modules.
"""

from __future__ import annotations

import jax
from flax import nnx

from jaxgen.batch import Batch
from jaxgen.models.config import TransformerConfig
from jaxgen.models.context import make_contexts
from jaxgen.models.norms import Norm
from jaxgen.models.parameters import kernel, make_parameter, project
from jaxgen.models.stack import Stack, StackOutput
from jaxgen.ops.attention.masks import attention_side
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.sharding.layout import keys_length, spec
from jaxgen.sharding.rules import reshard


class MultiTokenModule(nnx.Module):
    """Two norms, their projection to one stream, a block and its norm."""

    def __init__(self, config: TransformerConfig, depth: int, rngs: nnx.Rngs):
        embed, axes = config.embed_dim, ("embed", None)
        start = kernel(config, 2 * embed, embed, axes)
        self.hidden_norm = Norm(config, rngs)
        self.embedding_norm = Norm(config, rngs)
        self.from_hidden = make_parameter(rngs, (embed, embed), axes, start)
        self.from_embedding = make_parameter(rngs, (embed, embed), axes, start)
        self.stack = Stack(config.mtp_stack(depth), rngs)

    def __call__(
        self, hidden: jax.Array, embedded: jax.Array, batch: Batch, key: jax.Array | None
    ) -> StackOutput:
        """Maps two [batch, length, embed] to what the stack gives for them.

        Args:
          hidden: of the module before.
          embedded: the tokens ahead, 0 where there are none.
          batch: says which positions see each other.
          key: of a training pass.
        """
        x = project(self.hidden_norm(hidden), self.from_hidden)
        x = x + project(self.embedding_norm(embedded), self.from_embedding)
        queries = attention_side(batch.positions, batch.segment_ids, batch.block_ids)
        keys = jax.tree.map(lambda one: reshard(one, spec("batch", keys_length())), queries)
        contexts = make_contexts(
            self.stack.config, queries, keys, None, self.stack.relative, batch.places
        )
        return self.stack(x, RoutedTokens(batch.segment_ids), contexts, key=key)
