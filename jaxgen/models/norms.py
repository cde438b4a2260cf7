"""Normalisation over the width, in float32 whatever the dtype of the activations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.parameters import gather, make_parameter
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.initializers import ones, zeros
from jaxgen.ops.normalisation import last_axes, rms_normalise
from jaxgen.ops.taps import report


class Norm(nnx.Module):
    """RMSNorm (1910.07467) or LayerNorm (1607.06450), perhaps with a learned scale and a bias."""

    def __init__(
        self,
        config: StackConfig,
        rngs: nnx.Rngs,
        shape: tuple[int, ...] | None = None,
        axes: tuple[str | None, ...] = ("embed",),
        num_axes: int | None = None,
    ):
        """Normalises the stream, or without a bias axes of another `shape`: all, or the last."""
        self.config = config
        has_bias = shape is None and config.has_bias("norm")
        shape = (config.embed_dim,) if shape is None else shape
        start = zeros if config.norm_unit_offset else ones
        self.num_axes = num_axes or len(shape)
        self.scale = make_parameter(rngs, shape, axes, start) if config.norm_scale else None
        self.bias = make_parameter(rngs, shape, axes, zeros) if has_bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the last axes of `x`, in the dtype of `x`."""
        x32 = x.astype(jnp.float32)
        if self.config.norm == "layer":
            x32 = x32 - jnp.mean(x32, axis=last_axes(self.num_axes), keepdims=True)
        y = rms_normalise(x32, self.config.norm_epsilon, self.num_axes)
        if self.scale is not None:
            scale = gather(self.scale, jnp.float32)
            y = y * (scale + 1 if self.config.norm_unit_offset else scale)
        if self.bias is not None:
            y = y + gather(self.bias, jnp.float32)
        return report("norm", y.astype(x.dtype))
