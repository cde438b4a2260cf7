"""Token embedding whose vocabulary may be split over the tensor axis."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.config import TransformerConfig
from jaxgen.models.norms import Norm
from jaxgen.models.parameters import gather, kernel, make_parameter, project
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.dropout import dropout
from jaxgen.ops.embedding_noise import with_noise
from jaxgen.ops.initializers import normal
from jaxgen.ops.lookup import lookup
from jaxgen.ops.positions import sinusoids
from jaxgen.ops.taps import report

NOISE_KEY = 1
"""Folded into the key of a pass for noise on the embeddings; dropout has the key itself."""


class Embedding(nnx.Module):
    """The token table, and those of learned positions and token types if there are any."""

    def __init__(self, config: TransformerConfig, stack: StackConfig, rngs: nnx.Rngs):
        """Makes the tables of `config`, at the width of the stack that reads them."""
        self.config = config
        self.stack = stack

        def table(rows: int, axis: str | None, is_there: bool = True, width=stack.embed_dim):
            shape, start = (rows, width), stack.initialization.embedding_stddev
            axes = (axis, "embed")
            return make_parameter(rngs, shape, axes, normal(start)) if is_there else None

        self.table = table(config.vocab_size, "vocab", width=config.table_dim or stack.embed_dim)
        self.widen = make_between(config, stack, rngs, to_table=False)
        learned = config.embedding_positions == "learned"
        self.positions = table((config.max_length or 0) + config.unused_positions, None, learned)
        self.types = table(config.num_token_types, None, config.num_token_types > 0)
        self.text_positions = table(config.text_positions, None, config.text_positions > 0)
        self.places = nnx.List([table(rows, None, rows > 0) for rows in config.place_embeddings])
        self.norm = Norm(stack, rngs) if config.embedding_norm else None

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        types: jax.Array | None = None,
        key: jax.Array | None = None,
        places: jax.Array | None = None,
        modalities: jax.Array | None = None,
        put: Callable[[jax.Array], jax.Array] | None = None,
        segment_ids: jax.Array | None = None,
    ) -> jax.Array:
        """Maps [batch, length] int32 to [batch, length, embed] in the compute dtype.

        Without `types` all tokens are of type 0; `key` is of the dropout, and of the noise on the
        tokens of `segment_ids`. `places` and `modalities`
        are those of a batch; None: all is text. `put` writes vectors in place of the embeddings of
        some tokens.
        """
        config, stack, dtype = self.config, self.stack, self.stack.compute_dtype

        def rows(table, ids, axis=None):
            return lookup(gather(table, dtype), ids, axis)

        x = rows(self.table, tokens, "vocab")
        if self.widen is not None:
            x = project(x, self.widen)
        if config.scale_embeddings:
            x = x * (stack.embed_dim / stack.width_factor) ** 0.5
        if config.embedding_factor != 1:
            x = x * config.embedding_factor
        if segment_ids is not None:
            noise_key = None if key is None else jax.random.fold_in(key, NOISE_KEY)
            x = with_noise(x, segment_ids, config.embedding_noise, noise_key)
        if put is not None:
            x = put(x)
        if self.positions is not None:
            x = x + rows(self.positions, positions + config.unused_positions)
        if config.embedding_positions == "sinusoidal":
            x = x + sinusoids(positions, stack.embed_dim).astype(dtype)
        if self.types is not None:
            x = x + rows(self.types, jnp.zeros_like(tokens) if types is None else types)
        if self.text_positions is not None:
            is_text = (positions < config.text_positions)[..., None].astype(dtype)
            if modalities is not None:
                is_text = is_text * (modalities == 0)[..., None].astype(dtype)
            last = jnp.minimum(positions, config.text_positions - 1)
            x = x + is_text * rows(self.text_positions, last)
        if places is not None and modalities is not None:
            is_media = (modalities > 0)[..., None].astype(dtype)
            for axis, of_axis in enumerate(self.places):
                if of_axis is not None:
                    x = x + is_media * rows(of_axis, places[..., axis])
        x = x if self.norm is None else self.norm(x)
        return report("embedding", dropout(x, stack.dropout, key))


def make_between(
    config: TransformerConfig, stack: StackConfig, rngs: nnx.Rngs, to_table: bool
) -> nnx.Param | None:
    """Returns the matrix from the token table's width to the stream's or back, if they differ."""
    if config.table_dim is None:
        return None
    shape, axes = (config.table_dim, stack.embed_dim), (None, "embed")
    if to_table:
        shape, axes = shape[::-1], axes[::-1]
    return make_parameter(rngs, shape, axes, kernel(stack, shape[0], shape[1], axes))
