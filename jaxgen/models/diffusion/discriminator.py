"""A discriminator of patches, which tells pictures from pictures that were made (1611.07004)."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.convolutions import Convolution
from jaxgen.models.diffusion.unet_blocks import GroupNorm

SLOPE = 0.2
GROUPS = 4
EPSILON = 1e-5


class Discriminator(nnx.Module):
    """Three convolutions, of which two halve rows and columns, to a number for each patch.

    It has group norm where the authors have batch norm, whose running means a model has no room
    for.
    """

    def __init__(self, channels: int, width: int, rngs: nnx.Rngs):
        widths = discriminator_widths(channels, width)
        self.convolutions = nnx.List(
            [Convolution((4, 4, n_in), n_out, rngs) for n_in, n_out in itertools.pairwise(widths)]
        )
        self.norms = nnx.List([GroupNorm(one, GROUPS, EPSILON, rngs) for one in widths[2:]])
        self.last = Convolution((3, 3, widths[-1]), 1, rngs, split="in")

    def __call__(self, pictures: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, height / 4, width / 4], float32."""
        x = pictures
        for number, convolution in enumerate(self.convolutions):
            x = convolution(x, 2 if number < 2 else 1)
            x = x if number == 0 else self.norms[number - 1](x)
            x = jnp.where(x > 0, x, SLOPE * x)
        return self.last(x)[..., 0].astype(jnp.float32)


def discriminator_widths(channels: int, width: int) -> tuple[int, ...]:
    """Returns the channels before, between and after its convolutions but the last."""
    return channels, width, 2 * width, 4 * width
