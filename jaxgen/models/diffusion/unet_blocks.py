"""Residual blocks of pictures, which a U-Net and an autoencoder are made of."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.convolutions import Convolution
from jaxgen.models.diffusion.embedders import Linear
from jaxgen.models.parameters import gather, make_parameter
from jaxgen.ops.convolution import average_pool, repeat
from jaxgen.ops.dropout import dropout
from jaxgen.ops.initializers import Initialization, ones, zeros
from jaxgen.ops.normalisation import group_normalise

START = Initialization(residual_scaling=False)


class GroupNorm(nnx.Module):
    """Group norm (1803.08494) with a scale and a bias of each channel, in float32."""

    def __init__(self, channels: int, groups: int, epsilon: float, rngs: nnx.Rngs):
        self.groups, self.epsilon = groups, epsilon
        self.scale = make_parameter(rngs, (channels,), ("embed",), ones)
        self.bias = make_parameter(rngs, (channels,), ("embed",), zeros)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises [batch, height, width, channels], in the dtype of `x`."""
        y = group_normalise(x.astype(jnp.float32), self.groups, self.epsilon)
        y = y * gather(self.scale, jnp.float32) + gather(self.bias, jnp.float32)
        return y.astype(x.dtype)


class ResidualBlock(nnx.Module):
    """Norm, SiLU and convolution, twice, added to what was read; it may be told the time."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        rngs: nnx.Rngs,
        *,
        groups: int,
        epsilon: float,
        time_dim: int | None = None,
        scale_shift: bool = False,
        dropout: float = 0.0,
        resampling: Literal["down", "up"] | None = None,
    ):
        self.scale_shift, self.dropout, self.resampling = scale_shift, dropout, resampling
        self.norm = GroupNorm(n_in, groups, epsilon, rngs)
        self.first = Convolution((3, 3, n_in), n_out, rngs)
        self.time = (
            None
            if time_dim is None
            else Linear(time_dim, (2 if scale_shift else 1) * n_out, START, rngs)
        )
        self.second_norm = GroupNorm(n_out, groups, epsilon, rngs)
        # A block begins as the identity (2105.05233, appendix).
        self.second = Convolution((3, 3, n_out), n_out, rngs, zeros)
        self.skip = Convolution((1, 1, n_in), n_out, rngs) if n_in != n_out else None

    def __call__(
        self, x: jax.Array, time: jax.Array | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """Maps [batch, height, width, n_in] to n_out channels.

        Args:
          x: what is read.
          time: [batch, 1, time_dim], the embedding of time after SiLU.
          key: of the dropout.
        """
        y = jax.nn.silu(self.norm(x))
        if self.resampling is not None:
            resample = average_pool if self.resampling == "down" else repeat
            x, y = resample(x), resample(y)
        y = self.first(y)
        if self.time is None or time is None:
            y = self.second_norm(y)
        elif self.scale_shift:
            scale, shift = jnp.split(self.time(time)[:, None], 2, axis=-1)
            y = self.second_norm(y) * (1 + scale) + shift
        else:
            y = self.second_norm(y + self.time(time)[:, None])
        y = self.second(dropout(jax.nn.silu(y), self.dropout, key))
        return (x if self.skip is None else self.skip(x)) + y


class Halving(nnx.Module):
    """A convolution that leaves half of the rows and columns."""

    def __init__(self, n_in: int, n_out: int, rngs: nnx.Rngs, zeros_before: int = 1):
        """Makes the convolution, which reads so many zeros before a picture, and one after it."""
        self.zeros_before = zeros_before
        self.convolution = Convolution((3, 3, n_in), n_out, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.convolution(x, 2, ((self.zeros_before, 1),) * 2)


class Doubling(nnx.Module):
    """Every place four times, and a convolution."""

    def __init__(self, n_in: int, n_out: int, rngs: nnx.Rngs):
        self.convolution = Convolution((3, 3, n_in), n_out, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.convolution(repeat(x))
