"""The modules that read classes, or a contrastive pair's vectors, for a denoiser."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.adopting import adopted
from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.conditioner_configs import (
    ClassLabelsConfig,
    ClipConditionerConfig,
)
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.models.parameters import freeze, gather, make_parameter
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
