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
        standardises: bool = False,
    ):
        """Normalises the stream, or without a bias axes of another `shape`: all, or the last.

        One that standardises is a LayerNorm with scale and bias, whatever the stack's norms are.
        """
        self.is_layer_norm = standardises or config.norm == "layer"
        self.has_unit_offset = config.norm_unit_offset and not standardises
        self.epsilon = 1e-5 if standardises else config.norm_epsilon
        has_bias = standardises or (shape is None and config.has_bias("norm"))
        shape = (config.embed_dim,) if shape is None else shape
        start = zeros if self.has_unit_offset else ones
        self.num_axes = num_axes or len(shape)
        has_scale = standardises or config.norm_scale
        self.scale = make_parameter(rngs, shape, axes, start) if has_scale else None
        self.bias = make_parameter(rngs, shape, axes, zeros) if has_bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the last axes of `x`, in the dtype of `x`."""
        x32 = x.astype(jnp.float32)
        if self.is_layer_norm:
            x32 = x32 - jnp.mean(x32, axis=last_axes(self.num_axes), keepdims=True)
        y = rms_normalise(x32, self.epsilon, self.num_axes)
        if self.scale is not None:
            scale = gather(self.scale, jnp.float32)
            y = y * (scale + 1 if self.has_unit_offset else scale)
        if self.bias is not None:
            y = y + gather(self.bias, jnp.float32)
        return report("norm", y.astype(x.dtype))
