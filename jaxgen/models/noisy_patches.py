"""Patches of noisy pictures, each with what tells how noisy: a media encoder (Transfusion)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.diffusion.embedders import FREQUENCIES, TimeEmbedding, count_two_layers
from jaxgen.ops.initializers import Initialization
from jaxgen.ops.patches import image_patches
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import reshard


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyPatchesConfig:
    """Patches of a picture as they are, and beside each the embedding of the picture's time.

    A projector of one layer over both adds time to image places alone (Transfusion, 2408.11039).

    Attributes:
      image_size: rows and columns of a picture.
      patch_size: rows and columns of a patch, which divide the picture's.
      channels: of a picture.
      time_dim: width of the embedding of time.
    """

    image_size: PositiveInt = 256
    patch_size: PositiveInt = 16
    channels: PositiveInt = 3
    time_dim: PositiveInt = 256

    num_layers = 0
    differs_in_training = False

    def __post_init__(self):
        check_domains(self, "noisy_patches")
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"noisy_patches.image_size={self.image_size} is not divided by "
                f"noisy_patches.patch_size={self.patch_size}."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Height, width and channels of a picture."""
        return self.image_size, self.image_size, self.channels

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        side = self.image_size // self.patch_size
        return side, side

    @property
    def num_tokens(self) -> int:
        """Patches of a picture."""
        return self.grid[0] ** 2

    @property
    def patch_width(self) -> int:
        """Numbers in a patch."""
        return self.patch_size**2 * self.channels

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
            pictures = media.astype(jnp.float32) / 127.5 - 1
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
