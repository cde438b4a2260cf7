"""The modules that read prompts for a denoiser."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.adopting import adopted
from jaxgen.models.captions import caption_rows
from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.conditioner_configs import (
    CaptionEncoderConfig,
    ClassLabelsConfig,
    ClipConditionerConfig,
    TogetherConfig,
)
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.models.parameters import freeze, gather, make_parameter
from jaxgen.models.pooling import take
from jaxgen.models.transformer import Transformer
from jaxgen.ops.initializers import normal
from jaxgen.sharding.layout import Layout, spec, using
from jaxgen.sharding.rules import einsum, reshard


class ClassLabels(nnx.Module):
    """A table of classes, and a row for none of them."""

    def __init__(self, config: ClassLabelsConfig, rngs: nnx.Rngs, layout: Layout):
        self.config = config
        with using(layout):
            shape = (config.classes + 1, config.embed_dim)
            self.table = make_parameter(rngs, shape, (None, "embed"), normal(0.02))

    def __call__(
        self, prompts: Prompts, keep: jax.Array, key: jax.Array | None = None
    ) -> Conditioning:
        """Returns the vectors of the classes, where they are kept."""
        del key
        labels = jnp.where(keep, prompts.tokens[:, 0], self.config.classes)
        is_class = labels[:, None] == jnp.arange(self.config.classes + 1)
        is_class = is_class.astype(jnp.float32)
        table = gather(self.table, jnp.float32)
        pooled = einsum("bc,cd->bd", is_class, table, out=spec("batch", None))
        return Conditioning(pooled=pooled)


class CaptionEncoder(nnx.Module):
    """A transformer that reads captions, frozen or trained, or what it made of them before."""

    def __init__(self, config: CaptionEncoderConfig, rngs: nnx.Rngs, layout: Layout):
        self.config = config
        model = None if config.precomputed else Transformer(config.model, rngs, layout)
        self.model = freeze(model) if config.frozen and model is not None else model

    def __call__(
        self, prompts: Prompts, keep: jax.Array, key: jax.Array | None = None
    ) -> Conditioning:
        """Returns what the transformer makes of captions, of empty ones where they are dropped."""
        empty, shortest = prompts.empty_captions
        lengths = jnp.where(keep, prompts.lengths, shortest)
        if self.model is None:
            hidden = _stored_states(prompts, keep)
        else:
            tokens = jnp.where(keep[:, None], prompts.tokens, empty)
            hidden = self.states(tokens, lengths, key)
        pooled = None
        if self.config.pooled:
            pooled = take(hidden, lengths - 1)[:, 0]
        mask = None
        if self.config.masks_padding:
            mask = jnp.arange(hidden.shape[1]) < lengths[:, None]
        return Conditioning(sequence=hidden, mask=mask, pooled=pooled)

    def states(
        self, tokens: jax.Array, lengths: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """Returns the hidden states of captions, [batch, length, width] float32."""
        assert self.model is not None
        batch = caption_rows(tokens, lengths, self.config.masks_padding)
        hidden = self.model(batch, key=None if self.config.frozen else key).hidden
        return hidden.astype(jnp.float32)

    def adopt(self, parent: Any) -> CaptionEncoder:
        """Returns the encoder with the parameters of a transformer, or of a contrastive pair's."""
        found = jax.tree.map(lambda leaf: leaf, self)
        if self.model is not None:
            found.model = adopted(self.model, getattr(parent, "text", parent))
        return found


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


class ClipConditioner(nnx.Module):
    """A frozen contrastive pair, whose vectors of texts or pictures a denoiser is told."""

    def __init__(self, config: ClipConditionerConfig, rngs: nnx.Rngs, layout: Layout):
        self.config = config
        self.pair = freeze(config.pair.build(rngs, layout))

    def __call__(
        self, prompts: Prompts, keep: jax.Array, key: jax.Array | None = None
    ) -> Conditioning:
        """Returns vectors of length sqrt(width), and of texts what their last layer gives."""
        del key
        config, factor = self.config, math.sqrt(self.config.pair.embed_dim)
        if config.reads == "texts":
            empty, shortest = prompts.empty_captions
            tokens = jnp.where(keep[:, None], prompts.tokens, empty)
            lengths = jnp.where(keep, prompts.lengths, shortest)
            encoded = self.pair.encode_texts(tokens, lengths)
            sequence = self.pair.text_states(tokens, lengths).astype(jnp.float32)
            mask = jnp.arange(tokens.shape[1]) < lengths[:, None]
            return Conditioning(sequence=sequence, mask=mask, pooled=encoded * factor)
        vectors = prompts.embeddings
        if vectors is None:
            vectors = self.pair.encode_images(prompts.images) * factor
        vectors = reshard(jnp.where(keep[:, None], vectors, 0.0), spec("batch", None))
        return Conditioning(pooled=vectors)

    def adopt(self, parent: Any) -> ClipConditioner:
        """Returns the conditioner with the parameters of a contrastive pair."""
        found = jax.tree.map(lambda leaf: leaf, self)
        found.pair = adopted(self.pair, parent)
        return found


class Together(nnx.Module):
    """Several conditioners: sequences follow one another, vectors are laid side by side."""

    def __init__(self, config: TogetherConfig, rngs: nnx.Rngs, layout: Layout):
        self.config = config
        self.parts = nnx.List([one.build(rngs, layout) for one in config.parts])

    def __call__(
        self, prompts: Prompts, keep: jax.Array, key: jax.Array | None = None
    ) -> Conditioning:
        """Returns what all of them say; `keep` is [parts, batch]."""
        found = [part(prompts, keep[at], key) for at, part in enumerate(self.parts)]
        sequences = [one for one in found if one.sequence is not None]
        mask = None
        if any(one.mask is not None for one in sequences):
            masks = [
                jnp.ones(one.sequence.shape[:2], bool) if one.mask is None else one.mask
                for one in sequences
            ]
            mask = jnp.concatenate([reshard(one, spec("batch", None)) for one in masks], axis=1)
        pooled = [one.pooled for one in found if one.pooled is not None]
        together = [one.sequence for one in sequences]
        return Conditioning(
            sequence=jnp.concatenate(together, axis=1) if together else None,
            mask=mask,
            pooled=jnp.concatenate(pooled, axis=-1) if pooled else None,
        )

    def adopt(self, parent: Any) -> Together:
        """Returns this with a parent's parameters in each part that can take them."""
        found = jax.tree.map(lambda leaf: leaf, self)
        found.parts = nnx.List(
            [one.adopt(parent) if hasattr(one, "adopt") else one for one in self.parts]
        )
        return found
