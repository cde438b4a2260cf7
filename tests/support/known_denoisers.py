"""Denoisers without a network, of which the right answer is known."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxgen.models.base import ParameterCount
from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.parameters import gather, make_parameter
from jaxgen.ops.initializers import normal
from jaxgen.sharding.layout import Layout


@dataclasses.dataclass(frozen=True)
class LinearConfig:
    """A denoiser that multiplies pixels by a matrix and adds what it is told."""

    size: int = 4
    channels: int = 3
    out_channels: int = 3
    image_channels: int = 0
    context_dim: int | None = None
    pooled_dim: int | None = None
    compute_dtype: str = "float32"

    def build_denoiser(self, rngs):
        return Linear(self, rngs)

    def count_denoiser(self):
        total = (self.channels + self.image_channels) * self.out_channels
        total += self.out_channels * ((self.context_dim or 0) + (self.pooled_dim or 0))
        return ParameterCount(total=total, active=total)

    def picture_flops(self, context_length):
        del context_length
        return 2 * self.size**2 * (self.channels + self.image_channels) * self.out_channels


class Linear(nnx.Module):
    def __init__(self, config, rngs):
        self.config = config

        def matrix(width) -> Any:
            shape = (width, config.out_channels)
            return make_parameter(rngs, shape, (None, None), normal(0.3)) if width else None

        self.pixels = matrix(config.channels + config.image_channels)
        self.context, self.pooled = matrix(config.context_dim), matrix(config.pooled_dim)

    def __call__(self, x, time, conditioning, key=None):
        if self.config.image_channels:
            x = jnp.concatenate([x, conditioning.image], axis=-1)
        y = jnp.matmul(x, gather(self.pixels, x.dtype))
        if self.context is not None:
            mean = jnp.mean(conditioning.sequence, axis=1)
            y = y + jnp.matmul(mean, gather(self.context, x.dtype))[:, None, None]
        if self.pooled is not None:
            y = y + jnp.matmul(conditioning.pooled, gather(self.pooled, x.dtype))[:, None, None]
        return y * (1 + time / 1000)[:, None, None, None]


@dataclasses.dataclass(frozen=True)
class PassedConfig:
    """A conditioner that hands on the pictures that prompts bring with them."""

    context_dim = None
    pooled_dim = None
    drops = 0.0
    max_length = None

    def build(self, rngs, layout):
        return Passed(self)


class Passed(nnx.Module):
    def __init__(self, config):
        self.config = config

    def __call__(self, prompts, keep, key=None):
        return Conditioning(image=prompts.images.astype(jnp.float32) / 127.5 - 1)


@dataclasses.dataclass(frozen=True)
class SaysConfig(LinearConfig):
    """A denoiser that says the picture it is handed, or the opposite of it."""

    sign: float = 1.0

    def build_denoiser(self, rngs):
        return Says(self)


class Says(nnx.Module):
    def __init__(self, config):
        self.config = config

    def __call__(self, x, time, conditioning, key=None):
        return self.config.sign * conditioning.image


def told_model(size: int, sign: float = 1.0) -> Any:
    """A model that makes of a caption the picture that came with it, or its opposite."""
    passed: Any = PassedConfig()
    config = DiffusionConfig(denoiser=SaysConfig(size=size, sign=sign), conditioner=passed)
    return config.build(nnx.Rngs(0), Layout())


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A mixture of normals of one deviation, whose score is known in closed form.

    Attributes:
      means: [kinds, width].
      stddev: of each kind.
    """

    means: np.ndarray
    stddev: float

    def clean(self, x, alpha, sigma):
        """The mean of x given x_t, [rows, width]: the best prediction there is."""
        variance = (alpha * self.stddev) ** 2 + sigma**2
        gaps = x[:, None] - alpha * self.means[None]
        logits = -jnp.sum(gaps**2, axis=-1) / (2 * variance)
        shares = jax.nn.softmax(logits, axis=-1)
        of_kind = self.means[None] + alpha * self.stddev**2 / variance * gaps
        return jnp.sum(shares[..., None] * of_kind, axis=1)

    def score(self, x, alpha, sigma):
        """The gradient of the log-density of x_t, by automatic differentiation."""

        def log_density(row):
            variance = (alpha * self.stddev) ** 2 + sigma**2
            gaps = row[None] - alpha * self.means
            return jax.nn.logsumexp(-jnp.sum(gaps**2, axis=-1) / (2 * variance))

        return jax.vmap(jax.grad(log_density))(x)
