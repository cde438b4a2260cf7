"""The dense feed-forward, with a gate (SwiGLU, GEGLU: 2002.05202) or without."""

from __future__ import annotations

import jax
from flax import nnx

from jaxgen.models.parameters import gather, kernel, make_parameter, multiply
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.activations import activation
from jaxgen.ops.dropout import dropout
from jaxgen.ops.initializers import zeros
from jaxgen.ops.rematerialisation import named
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.ops.taps import report
from jaxgen.sharding.layout import spec


class FeedForward(nnx.Module):
    """Up (and gate), non-linearity, down."""

    def __init__(
        self,
        config: StackConfig,
        rngs: nnx.Rngs,
        mlp_dim: int | None = None,
        gated: bool | None = None,
    ):
        """Makes the model's own, or a shared expert of another width and gate without biases."""
        self.config = config
        has_bias = mlp_dim is None and config.has_bias("feed_forward")
        embed, mlp = config.embed_dim, config.mlp_dim if mlp_dim is None else mlp_dim
        gated = config.gated if gated is None else gated
        up, down = ("embed", "mlp"), ("mlp", "embed")
        start = kernel(config, embed, mlp, up)

        def bias(shape, axes, is_there):
            return make_parameter(rngs, shape, axes, zeros) if is_there else None

        self.up = make_parameter(rngs, (embed, mlp), up, start)
        self.gate = make_parameter(rngs, (embed, mlp), up, start) if gated else None
        start = kernel(config, mlp, embed, down, into_stream=True)
        self.down = make_parameter(rngs, (mlp, embed), down, start)
        self.up_bias = bias((mlp,), ("mlp",), has_bias)
        self.gate_bias = bias((mlp,), ("mlp",), has_bias and gated)
        self.down_bias = bias((embed,), ("embed",), has_bias)

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Maps [batch, length, embed] to the same; `key` is of the dropout, None leaves it out."""
        wide = spec("batch", "length", "mlp")
        nonlinear = activation(self.config.activation)
        hidden = named(self._linear("btd,df->btf", x, self.up, self.up_bias, wide), "up")
        if self.gate is None:
            hidden = nonlinear(hidden)
        else:
            gate = named(self._linear("btd,df->btf", x, self.gate, self.gate_bias, wide), "gate")
            hidden = nonlinear(gate) * hidden
        hidden = dropout(hidden, self.config.feed_forward_dropout, key)
        narrow = spec("batch", "length", None)
        y = self._linear("btf,fd->btd", hidden, self.down, self.down_bias, narrow)
        return report("feed_forward", y)

    def feed(
        self, x: jax.Array, tokens: RoutedTokens, key: jax.Array | None
    ) -> tuple[jax.Array, None]:
        """Computes as a block asks for it; a dense layer has no router to tell of."""
        del tokens
        return self(x, key), None

    def _linear(self, equation, x, weight, bias, layout):
        y = multiply(equation, x, weight, layout, self.config.matmul_dtype)
        return y if bias is None else y + gather(bias, x.dtype)
