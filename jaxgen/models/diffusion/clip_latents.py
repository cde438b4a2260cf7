"""The vectors of a contrastive pair in place of pictures: what a prior makes (2204.06125, 2.2)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.adopting import adopted
from jaxgen.models.base import ParameterCount
from jaxgen.models.dual_encoder_config import DualEncoderConfig
from jaxgen.ops.patches import reshape_rows
from jaxgen.sharding.layout import Layout


@dataclasses.dataclass(frozen=True)
class ClipLatentsConfig:
    """Pictures as their vectors in a pair's space, which no decoder is here for.

    A vector has the length sqrt(width), so that its numbers are of size 1, and is a picture of one
    pixel to what corrupts it. A run of it is the first of a cascade.

    Attributes:
      pair: the contrastive pair, which stays as it begins.
    """

    pair: DualEncoderConfig

    latent_size = 1

    @property
    def picture_size(self) -> int:
        """Rows and columns of a picture."""
        return self.pair.vision.image_size

    @property
    def latent_channels(self) -> int:
        """Width of a vector."""
        return self.pair.embed_dim

    def build(self, rngs: nnx.Rngs, layout: Layout) -> ClipLatents:
        """Returns the module."""
        return ClipLatents(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the pair's numbers."""
        return self.pair.count()

    def latent_flops(self) -> int:
        """Returns those of the vision tower."""
        from jaxgen.models.vision_counting import vision_flops

        return vision_flops(self.pair.vision)


class ClipLatents(nnx.Module):
    """A contrastive pair that maps pictures to vectors."""

    def __init__(self, config: ClipLatentsConfig, rngs: nnx.Rngs, layout: Layout):
        self.config = config
        self.pair = config.pair.build(rngs, layout)

    def to_latents(self, pictures: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Maps [batch, size, size, 3] from -1 to 1 to [batch, 1, 1, width]."""
        del key
        vision, width = self.config.pair.vision, self.config.pair.embed_dim
        mean, spread = (jnp.asarray(one) for one in (vision.pixel_mean, vision.pixel_stddev))
        vectors = self.pair.encode_images(((pictures + 1) / 2 - mean) / spread)
        return reshape_rows(vectors * math.sqrt(width), len(vectors), 1, 1, width)

    def adopt(self, parent: Any) -> ClipLatents:
        """Returns this with the parameters of a contrastive pair."""
        found = jax.tree.map(lambda leaf: leaf, self)
        found.pair = adopted(self.pair, parent)
        return found
