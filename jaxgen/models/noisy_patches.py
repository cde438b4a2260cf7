"""Patches of noisy pictures, each with what tells how noisy: a media encoder (Transfusion)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.domains import PositiveInt
from jaxgen.models.diffusion.embedders import FREQUENCIES, TimeEmbedding, count_two_layers
from jaxgen.models.media_config import PatchesConfig
from jaxgen.ops.initializers import Initialization
from jaxgen.ops.patches import image_patches
from jaxgen.ops.pixels import as_numbers
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import reshard


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyPatchesConfig(PatchesConfig):
    """Patches of a picture as they are, and beside each the embedding of the picture's time.

    A projector of one layer over both adds time to image places alone (Transfusion, 2408.11039).

    Attributes:
      image_size: rows and columns of a picture.
      patch_size: rows and columns of a patch, which divide the picture's.
      channels: of a picture.
      time_dim: width of the embedding of time.
    """

    image_size: PositiveInt = 256
    time_dim: PositiveInt = 256

    NAME: ClassVar[str] = "noisy_patches"

    @property
    def width(self) -> int:
        """Numbers of a patch and of its time."""
        return self.patch_width + self.time_dim

    def make(self, rngs: nnx.Rngs) -> NoisyPatches:
        """Returns the encoder."""
        return NoisyPatches(self, rngs)

    def size(self) -> tuple[int, int]:
        """Returns the exact number of parameters, and 0: there is no position table."""
        return count_two_layers(FREQUENCIES, self.time_dim), 0

    def forward_flops(self, num_layers: int | None = None) -> int:
        """Returns the operations of the matrix products for one picture."""
        del num_layers
        return 2 * (FREQUENCIES + self.time_dim) * self.time_dim


class NoisyPatches(nnx.Module):
    """Patches of pixels between -1 and 1, and the embedding of time."""

    def __init__(self, config: NoisyPatchesConfig, rngs: nnx.Rngs):
        self.config = config
        self.time = TimeEmbedding(config.time_dim, Initialization(), rngs)

    def features(self, media: jax.Array, key: Any = None, num_layers: Any = None) -> jax.Array:
        """Maps pictures to [batch, patches, width] float32.

        Args:
          media: [batch, height, width, channels] uint8, which are clean; or float32 with one more
            channel, the time of each picture.
          key: of a training pass, in which nothing differs.
          num_layers: there are none.
        """
        del key, num_layers
        config = self.config
        if media.dtype == jnp.uint8:
            pictures = as_numbers(media)
            time = jnp.zeros_like(pictures[:, 0, 0, 0])
        else:
            pictures, time = media[..., : config.channels], media[:, 0, 0, config.channels]
        patches = image_patches(pictures, config.patch_size)
        told = jax.nn.silu(self.time(time, "float32"))
        shape = (*patches.shape[:2], config.time_dim)
        told = jnp.broadcast_to(told, shape)
        return jnp.concatenate([patches, reshard(told, spec("batch", None, None))], axis=-1)


def with_time(pictures: jax.Array, time: jax.Array) -> jax.Array:
    """Returns pictures [..., height, width, channels] with one more channel, their time [...]."""
    shape = (*pictures.shape[:-1], 1)
    channel = jnp.broadcast_to(time[..., None, None, None].astype(pictures.dtype), shape)
    return jnp.concatenate([pictures, channel], axis=-1)
