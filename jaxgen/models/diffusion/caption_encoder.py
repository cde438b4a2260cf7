"""The module that reads captions for a denoiser."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.adopting import adopted
from jaxgen.models.captions import caption_rows
from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.caption_encoder_config import CaptionEncoderConfig
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.models.parameters import freeze, kernel, make_parameter, project
from jaxgen.models.pooling import take
from jaxgen.models.transformer import Transformer
from jaxgen.sharding.layout import Layout, using


class CaptionEncoder(nnx.Module):
    """A transformer that reads captions, frozen or trained, or what it made of them before."""

    def __init__(self, config: CaptionEncoderConfig, rngs: nnx.Rngs, layout: Layout):
        self.config = config
        model, projection = None, None
        if not config.precomputed:
            model = Transformer(config.model, rngs, layout)
        if config.projection is not None:
            shape, axes = (config.model.embed_dim, config.projection), ("embed", None)
            with using(layout):
                start = kernel(config.model, *shape, axes)
                projection = make_parameter(rngs, shape, axes, start)
        if config.frozen:
            model, projection = freeze((model, projection))
        self.model, self.projection = model, projection

    def __call__(
        self, prompts: Prompts, keep: jax.Array, key: jax.Array | None = None
    ) -> Conditioning:
        """Returns what the transformer makes of captions, of empty ones where they are dropped."""
        config, captions = self.config, prompts.captions(self.config.codec)
        lengths = jnp.where(keep, captions.lengths, captions.empty_lengths)
        pooled = None
        if self.model is None:
            hidden = sequence = _stored_states(prompts, keep)
        else:
            tokens = jnp.where(keep[:, None], captions.tokens, captions.empty_tokens)
            sequence, hidden = self._read(tokens, lengths, key)
        if config.pooled:
            pooled = take(hidden, lengths - 1)
            pooled = pooled if self.projection is None else project(pooled, self.projection)
            pooled = pooled[:, 0].astype(jnp.float32)
        mask = None
        if config.masks_padding:
            mask = jnp.arange(sequence.shape[1]) < lengths[:, None]
        return Conditioning(sequence=sequence, mask=mask, pooled=pooled)

    def states(
        self, tokens: jax.Array, lengths: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """Returns the sequence of captions, [batch, length, width] float32."""
        return self._read(tokens, lengths, key)[0]

    def adopt(self, parent: Any) -> CaptionEncoder:
        """Returns the encoder with the parameters of a transformer, or of a contrastive pair's.

        Raises:
          ValueError: if the parent lacks parameters of it.
        """
        found = jax.tree.map(lambda leaf: leaf, self)
        if self.projection is not None:
            own = getattr(parent, "text_projection", None)
            if own is None:
                raise ValueError("the encoder has a projection, and its parent has none")
            found.projection = adopted(self.projection, own.weight)
        if self.model is not None:
            found.model = adopted(self.model, getattr(parent, "text", parent))
        return found

    def _read(
        self, tokens: jax.Array, lengths: jax.Array, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the sequence, and the last hidden states, both float32."""
        config, model = self.config, self.model
        assert model is not None
        if config.pad_id is not None:
            is_there = jnp.arange(tokens.shape[1]) < lengths[:, None]
            tokens = jnp.where(is_there, tokens, config.pad_id)
        batch = caption_rows(tokens, lengths, config.masks_padding)
        last = config.skipped_layers or None
        output = model(batch, key=None if config.frozen else key, last=last)
        hidden = output.hidden.astype(jnp.float32)
        return hidden if last is None else output.states.astype(jnp.float32), hidden


def _stored_states(prompts: Prompts, keep: jax.Array) -> jax.Array:
    """Returns the states that came with prompts, an empty caption's where one is dropped."""
    if prompts.states is None or prompts.empty_states is None:
        raise ConfigError(
            "caption_encoder.precomputed=True reads states that the batch does not have: set "
            "image_text_pairs.encodings to a folder of `jaxgen prepare --captions`."
        )
    states = jnp.asarray(prompts.states).astype(jnp.float32)
    empty = jnp.asarray(prompts.empty_states).astype(jnp.float32)
    missing = states.shape[1] - empty.shape[1]
    empty = jnp.pad(empty, ((0, 0), (0, missing), (0, 0)))
    return jnp.where(keep[:, None, None], states, empty)
