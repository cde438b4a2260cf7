"""Normalisation over the width, in float32 whatever the dtype of the activations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.config import TransformerConfig
from jaxgen.models.parameters import gather, make_parameter, ones, zeros
from jaxgen.sharding.rules import Rules


class Norm(nnx.Module):
    """RMSNorm (1910.07467) with a learned scale, or LayerNorm (1607.06450) with a bias too."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, rules: Rules):
        self.epsilon = config.norm_epsilon
        self.rules = rules
        shape, axes = (config.embed_dim,), ("embed",)
        self.scale = make_parameter(rngs, rules, shape, axes, ones)
        has_bias = config.norm == "layer"
        self.bias = make_parameter(rngs, rules, shape, axes, zeros) if has_bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., embed] -> [..., embed], in the dtype of `x`."""
        x32 = x.astype(jnp.float32)
        scale = gather(self.scale, self.rules, jnp.float32)
        if self.bias is None:
            mean_square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
            return (x32 * jax.lax.rsqrt(mean_square + self.epsilon) * scale).astype(x.dtype)
        centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        bias = gather(self.bias, self.rules, jnp.float32)
        return (centred * jax.lax.rsqrt(variance + self.epsilon) * scale + bias).astype(x.dtype)
