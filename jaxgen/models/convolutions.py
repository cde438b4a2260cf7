"""Towers of convolutions: residual blocks of DALL-E's discrete VAE (2102.12092, A.2)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.autoencoder_config import AutoencoderConfig
from jaxgen.models.parameters import gather, make_parameter
from jaxgen.ops.convolution import Padding, convolve
from jaxgen.ops.initializers import Initializer, normal, zeros


class Convolution(nnx.Module):
    """A convolution with a bias."""

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        rngs: nnx.Rngs,
        start: Initializer | None = None,
        split: Literal["out", "in"] | None = "out",
    ):
        """Makes the weight.

        Args:
          size: of the window, then the channels that are read.
          channels: that are given.
          rngs: of its first values.
          start: its first values; None: normal, with a variance of one over what is summed.
          split: which channels devices may share: those that it gives, or where these are few, as
            those of a picture, the ones that it reads; None: neither.
        """
        read, given = "embed" if split == "in" else None, "embed" if split == "out" else None
        axes = (*[None] * (len(size) - 1), read, given)
        start = normal(math.prod(size) ** -0.5) if start is None else start
        self.weight = make_parameter(rngs, (*size, channels), axes, start)
        self.bias = make_parameter(rngs, (channels,), axes[-1:], zeros)

    def __call__(self, x: jax.Array, stride: int = 1, padding: Padding = "SAME") -> jax.Array:
        y = convolve(x, gather(self.weight, x.dtype), stride, padding)
        return y + gather(self.bias, x.dtype)


class Matrix(nnx.Module):
    """A matrix with a bias, at every place."""

    def __init__(self, width: int, channels: int, rngs: nnx.Rngs):
        self.weight = make_parameter(rngs, (width, channels), ("embed", None), normal(width**-0.5))
        self.bias = make_parameter(rngs, (channels,), (None,), zeros)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.matmul(x, gather(self.weight, x.dtype)) + gather(self.bias, x.dtype)


class _Block(nnx.Module):
    """Four convolutions, each of what is positive, added to what they read."""

    def __init__(
        self, n_in: int, n_out: int, kernels: Sequence[int], axes: int, gain: float, rngs: nnx.Rngs
    ):
        self.gain = gain
        self.skip = Convolution((*[1] * axes, n_in), n_out, rngs) if n_in != n_out else None
        widths = [n_in, *[n_out // 4] * (len(kernels) - 1), n_out]
        self.convolutions = nnx.List(
            [
                Convolution((*[size] * axes, widths[at]), widths[at + 1], rngs)
                for at, size in enumerate(kernels)
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for one in self.convolutions:
            y = one(jax.nn.relu(y))
        return (x if self.skip is None else self.skip(x)) + self.gain * y


class Tower(nnx.Module):
    """Groups of blocks with another resolution between them."""

    def __init__(
        self,
        config: AutoencoderConfig,
        widths: Sequence[int],
        kernels: Sequence[int],
        between: Callable[[jax.Array], jax.Array],
        rngs: nnx.Rngs,
    ):
        axes = len(config.first_size) - 1
        self.between = between
        self.groups = nnx.List(
            [
                nnx.List(
                    [
                        _Block(n_out if at else n_in, n_out, kernels, axes, config.gain, rngs)
                        for at in range(config.blocks)
                    ]
                )
                for n_in, n_out in itertools.pairwise(widths)
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for number, group in enumerate(self.groups):
            x = self.between(x) if number else x
            for block in group:
                x = block(x)
        return x
