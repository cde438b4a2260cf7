"""Vectors of a denoiser's conditioning: the embedding of time, and those that join it."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.parameters import gather, make_parameter, project
from jaxgen.ops.activations import activation
from jaxgen.ops.initializers import Initialization, normal, zeros
from jaxgen.ops.linear import linear
from jaxgen.ops.patches import image_patches
from jaxgen.sharding.layout import spec

FREQUENCIES = 256
"""Sines and cosines that a time is told by."""


def time_waves(time: jax.Array, dim: int, shift: int = 0) -> jax.Array:
    """Returns the cosines, then the sines of times, [batch, dim] float32.

    Args:
      time: [batch] float32.
      dim: an even number.
      shift: frequency i is 10,000^(-i / (dim / 2 - shift)), i from 0: with 1 the last is
        1 / 10,000 itself (as in DDPM, and in `diffusers`' DiT); with 0 not quite.
    """
    half = dim // 2
    # In the order in which others compute it, as angles of large times show the rounding.
    exponents = -math.log(10_000.0) * jnp.arange(half, dtype=jnp.float32)
    frequencies = jnp.exp(exponents / (half - shift))
    angles = time.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TwoLayers(nnx.Module):
    """A matrix, SiLU, and a matrix, both with biases, from one vector of a row to another."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        start: Initialization,
        rngs: nnx.Rngs,
        hidden: int | None = None,
    ):
        """Makes the matrices; the `hidden` width is by default that of what is given."""
        hidden = n_out if hidden is None else hidden
        first, second = (normal(start.kernel_stddev(*s)) for s in ((n_in, hidden), (hidden, n_out)))
        self.first = make_parameter(rngs, (n_in, hidden), (None, "embed"), first)
        self.first_bias = make_parameter(rngs, (hidden,), ("embed",), zeros)
        self.second = make_parameter(rngs, (hidden, n_out), ("embed", None), second)
        self.second_bias = make_parameter(rngs, (n_out,), (None,), zeros)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, length, n_in] to [batch, length, n_out]."""
        x = activation("silu")(project(x, self.first, self.first_bias))
        return project(x, self.second, self.second_bias)


class TimeEmbedding(nnx.Module):
    """The sines and cosines of a time, through two layers (DDPM, 2006.11239)."""

    def __init__(
        self,
        dim: int,
        start: Initialization,
        rngs: nnx.Rngs,
        frequencies: int = FREQUENCIES,
        shift: int = 0,
        hidden: int | None = None,
    ):
        self.frequencies, self.shift = frequencies, shift
        self.layers = TwoLayers(frequencies, dim, start, rngs, hidden)

    def __call__(self, time: jax.Array, dtype: str) -> jax.Array:
        """Maps [batch] float32 to [batch, 1, dim]."""
        waves = time_waves(time, self.frequencies, self.shift)
        return self.layers(waves[:, None].astype(dtype))


class Linear(nnx.Module):
    """A matrix with a bias, from one width to another at every place."""

    def __init__(self, n_in: int, n_out: int, start: Initialization, rngs: nnx.Rngs):
        stddev = start.kernel_stddev(n_in, n_out)
        self.weight = make_parameter(rngs, (n_in, n_out), (None, "embed"), normal(stddev))
        self.bias = make_parameter(rngs, (n_out,), ("embed",), zeros)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, length, n_in] to [batch, length, n_out]."""
        return project(x, self.weight, self.bias)


class Patches(nnx.Module):
    """A matrix from every patch of a picture, perhaps with a bias."""

    def __init__(
        self,
        size: int,
        channels: int,
        n_out: int,
        start: Initialization,
        rngs: nnx.Rngs,
        bias: bool = True,
    ):
        """Makes it for patches of `size` rows and columns."""
        shape, axes = (size, size, channels, n_out), (None, None, None, "embed")
        stddev = start.kernel_stddev(size**2 * channels, n_out)
        self.weight = make_parameter(rngs, shape, axes, normal(stddev))
        self.bias = make_parameter(rngs, (n_out,), ("embed",), zeros) if bias else None

    def __call__(self, picture: jax.Array) -> jax.Array:
        """Maps [batch, height, width, channels] to [batch, patches, n_out]."""
        size, n_out = self.weight.shape[0], self.weight.shape[-1]
        patches = image_patches(picture, size)
        weight = gather(self.weight, picture.dtype).reshape(patches.shape[-1], n_out)
        y = linear("btd,de->bte", patches, weight, spec("batch", None, None))
        return y if self.bias is None else y + gather(self.bias, y.dtype)


def count_two_layers(n_in: int, n_out: int, hidden: int | None = None) -> int:
    """Returns the exact number of parameters of two layers."""
    hidden = n_out if hidden is None else hidden
    return (n_in + 1) * hidden + (hidden + 1) * n_out
