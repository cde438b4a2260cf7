"""The dense feed-forward: SwiGLU and GEGLU (2002.05202) or GELU (1606.08415)."""

from __future__ import annotations

import jax
from flax import nnx

from jaxgen.models.config import TransformerConfig
from jaxgen.models.linear import linear
from jaxgen.models.parameters import gather, make_parameter, normal, zeros
from jaxgen.sharding.rules import Rules


def activation(kind: str, x: jax.Array) -> jax.Array:
    """The non-linearity of a feed-forward kind; GELU in its tanh form, as GPT-2 has it."""
    return jax.nn.silu(x) if kind == "swiglu" else jax.nn.gelu(x, approximate=True)


class FeedForward(nnx.Module):
    """Up (and gate), non-linearity, down."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, rules: Rules):
        self.kind = config.feed_forward
        self.rules = rules
        embed, mlp = config.embed_dim, config.mlp_dim
        into, out_of = normal(embed**-0.5), normal((2 * config.num_layers * mlp) ** -0.5)
        self.up = make_parameter(rngs, rules, (embed, mlp), ("embed", "mlp"), into)
        self.gate = (
            make_parameter(rngs, rules, (embed, mlp), ("embed", "mlp"), into)
            if config.feed_forward_is_gated
            else None
        )
        self.down = make_parameter(rngs, rules, (mlp, embed), ("mlp", "embed"), out_of)

        def bias(shape, axes, wanted=True):
            wanted = wanted and config.use_bias
            return make_parameter(rngs, rules, shape, axes, zeros) if wanted else None

        self.up_bias = bias((mlp,), ("mlp",))
        self.gate_bias = bias((mlp,), ("mlp",), config.feed_forward_is_gated)
        self.down_bias = bias((embed,), ("embed",))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, length, embed] -> the same."""
        wide = self.rules.activation("batch", "length", "mlp")
        hidden = self._linear("btd,df->btf", x, self.up, self.up_bias, wide)
        if self.gate is None:
            hidden = activation(self.kind, hidden)
        else:
            gate = self._linear("btd,df->btf", x, self.gate, self.gate_bias, wide)
            hidden = activation(self.kind, gate) * hidden
        narrow = self.rules.activation("batch", "length", None)
        return self._linear("btf,fd->btd", hidden, self.down, self.down_bias, narrow)

    def _linear(self, equation, x, weight, bias, layout):
        y = linear(equation, x, gather(weight, self.rules, x.dtype), layout)
        return y if bias is None else y + gather(bias, self.rules, x.dtype)
