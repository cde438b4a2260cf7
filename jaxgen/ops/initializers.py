"""Initial values of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from jaxgen.domains import PositiveFloat, check_domains

Initializer = Callable[..., jax.Array]  # (key, shape, out_sharding) -> array


def normal(stddev: float) -> Initializer:
    """Draws from N(0, stddev^2)."""

    def initialize(key, shape, out_sharding):
        return stddev * jax.random.normal(key, shape, jnp.float32, out_sharding=out_sharding)

    return initialize


def ones(key, shape, out_sharding):
    """Returns ones."""
    del key
    return jnp.ones(shape, jnp.float32, out_sharding=out_sharding)


def zeros(key, shape, out_sharding):
    """Returns zeros."""
    del key
    return jnp.zeros(shape, jnp.float32, out_sharding=out_sharding)


@dataclasses.dataclass(frozen=True)
class Initialization:
    """The distribution of initial parameters: matrices normal, scales 1, biases 0.

    Attributes:
      kernel: the variance: "fan_in" 1 / n_in; "glorot" 2 / (n_in + n_out); "fixed" stddev^2.
      stddev: of "fixed".
      scale: times the variance of the others (Switch Transformer: 0.1).
      embedding_stddev: of the token, position and type tables.
      residual_scaling: whether projections back to the stream are divided by sqrt(2 * num_layers)
        (GPT-2).
      query_scaling: whether queries begin smaller by sqrt(head_dim), instead of a scale on the
        logits of attention (T5).
    """

    kernel: Literal["fan_in", "glorot", "fixed"] = "fan_in"
    stddev: PositiveFloat = 0.02
    scale: PositiveFloat = 1.0
    embedding_stddev: PositiveFloat = 0.02
    residual_scaling: bool = True
    query_scaling: bool = False

    def __post_init__(self):
        check_domains(self, "initialization")

    def kernel_stddev(self, n_in: float, n_out: float) -> float:
        """Returns the standard deviation of a matrix that sums over `n_in`."""
        if self.kernel == "fixed":
            return self.stddev
        variance = 1 / n_in if self.kernel == "fan_in" else 2 / (n_in + n_out)
        return (self.scale * variance) ** 0.5
