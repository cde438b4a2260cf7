"""The layers between the last block and the losses of BERT (1810.04805)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.norms import Norm
from jaxgen.models.parameters import gather, kernel, make_parameter, project
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.activations import activation
from jaxgen.ops.initializers import zeros


class _Dense(nnx.Module):
    """A square matrix and a bias."""

    def __init__(self, config: StackConfig, rngs: nnx.Rngs):
        embed, axes = config.embed_dim, ("embed", None)
        start = kernel(config, embed, embed, axes)
        self.weight = make_parameter(rngs, (embed, embed), axes, start)
        self.bias = make_parameter(rngs, (embed,), ("embed",), zeros)


class Transform(_Dense):
    """Dense, activation and norm before the logits."""

    def __init__(self, config: StackConfig, rngs: nnx.Rngs):
        super().__init__(config, rngs)
        self.kind = config.activation
        self.norm = Norm(config, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, length, embed] to the same."""
        return self.norm(activation(self.kind)(project(x, self.weight, self.bias)))


class PairHead(nnx.Module):
    """Two classes of what is pooled: the second span follows the first, or does not."""

    def __init__(self, config: StackConfig, rngs: nnx.Rngs):
        embed, axes = config.embed_dim, ("embed", None)
        start = kernel(config, embed, 2, axes)
        self.weight = make_parameter(rngs, (embed, 2), axes, start)
        self.bias = make_parameter(rngs, (2,), (None,), zeros)

    def __call__(self, pooled: jax.Array) -> jax.Array:
        """Maps [batch, length, embed] to [batch, length, 2] float32."""
        return project(pooled, self.weight).astype(jnp.float32) + gather(self.bias, jnp.float32)


class Pooler(_Dense):
    """Dense and tanh; BERT's is of the first token of a text."""

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Maps [batch, length, embed] to the same."""
        return jnp.tanh(project(hidden, self.weight, self.bias))
