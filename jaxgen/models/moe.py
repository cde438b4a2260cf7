"""The mixture-of-experts feed-forward: token choice, dropless, experts split over the mesh."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.config import MoEConfig, TransformerConfig
from jaxgen.models.dispatch import from_rows, make_dispatch, to_rows
from jaxgen.models.feedforward import activation
from jaxgen.models.grouped_matmul import default_implementation, grouped_matmul
from jaxgen.models.parameters import gather, make_parameter, normal
from jaxgen.models.routing import RouterStatistics, route
from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.rules import Rules, mesh_is_set

BLOCK_ROWS = 128
"""Rows of a block of one expert: large enough for a fast product, small enough to pad little."""


class MoE(nnx.Module):
    """Router and experts; an expert is a feed-forward of the model's kind, without biases."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, rules: Rules):
        if config.moe is None:
            raise ConfigError("a sparse block needs model.moe.")
        moe: MoEConfig = config.moe
        self.moe = moe
        self.kind = config.feed_forward
        self.rules = rules
        embed, mlp, experts = config.embed_dim, moe.mlp_dim, moe.num_experts
        into, out_of = normal(embed**-0.5), normal((2 * config.num_layers * mlp) ** -0.5)
        up, down = ("experts", "embed", "mlp"), ("experts", "mlp", "embed")
        self.router = make_parameter(rngs, rules, (embed, experts), ("embed", None), into)
        self.up = make_parameter(rngs, rules, (experts, embed, mlp), up, into)
        self.gate = (
            make_parameter(rngs, rules, (experts, embed, mlp), up, into)
            if config.feed_forward_is_gated
            else None
        )
        self.down = make_parameter(rngs, rules, (experts, mlp, embed), down, out_of)

    def __call__(self, x: jax.Array, segment_ids: jax.Array) -> tuple[jax.Array, RouterStatistics]:
        """[batch, length, embed] -> the same, and the router's statistics.

        Args:
          x: the normed stream.
          segment_ids: [batch, length] int32; tokens of segment 0 are padding and get zeros.
        """
        rules = self.rules
        # The router decides in float32: a rounded tie would change the expert.
        router = gather(self.router, rules, jnp.float32)
        up, down = (gather(weight, rules, x.dtype) for weight in (self.up, self.down))
        gate = None if self.gate is None else gather(self.gate, rules, x.dtype)
        if not mesh_is_set():
            return self._local(x, segment_ids, router, up, gate, down, (), (), ())
        token_axes = axis_names(rules.batch) + axis_names(rules.length)
        expert_axes, mlp_axes = axis_names(rules.experts), axis_names(rules.mlp)

        def local(x, segment_ids, router, up, gate, down):
            # Cast here, the gradients of the weights are summed over tokens once, after the loops.
            other = tuple(axis for axis in token_axes if axis not in expert_axes)
            router = _varying(router, token_axes)
            up, gate, down = (None if w is None else _varying(w, other) for w in (up, gate, down))
            return self._local(
                x, segment_ids, router, up, gate, down, token_axes, expert_axes, mlp_axes
            )

        activations = rules.activation("batch", "length", None)
        wide = rules.gathered(("experts", "embed", "mlp"))
        return jax.shard_map(
            local,
            in_specs=(
                activations,
                rules.activation("batch", "length"),
                jax.P(),
                wide,
                None if gate is None else wide,
                rules.gathered(("experts", "mlp", "embed")),
            ),
            out_specs=(activations, RouterStatistics(jax.P(), jax.P(), jax.P())),
        )(x, segment_ids, router, up, gate, down)

    def _local(
        self, x, segment_ids, router, up, gate, down, token_axes, expert_axes, mlp_axes
    ) -> tuple[jax.Array, RouterStatistics]:
        """One device's part: its tokens, its experts, its share of the experts' width."""
        shape = x.shape
        x = x.reshape(-1, shape[-1])
        logits = jnp.matmul(x.astype(jnp.float32), router, precision=jax.lax.Precision.HIGHEST)
        routes, statistics = route(
            logits,
            segment_ids.reshape(-1) > 0,
            self.moe.experts_per_token,
            self.moe.normalize_top_k,
            token_axes,
        )
        experts, weights = routes
        # Devices that share tokens' replicas hold different experts: they see each other's tokens.
        shared = tuple(axis for axis in expert_axes if axis in token_axes)
        if shared:
            x, experts, weights = (
                jax.lax.all_gather(array, shared, tiled=True) for array in (x, experts, weights)
            )
        x = _varying(x, mlp_axes)
        num_here = up.shape[0]
        first = jax.lax.axis_index(expert_axes) * num_here if expert_axes else 0
        dispatch = make_dispatch(experts, first, num_here, BLOCK_ROWS)
        implementation = default_implementation()
        rows = to_rows(x, dispatch)
        hidden = grouped_matmul(rows, up, dispatch.layout, implementation)
        if gate is None:
            hidden = activation(self.kind, hidden)
        else:
            gated = grouped_matmul(rows, gate, dispatch.layout, implementation)
            hidden = activation(self.kind, gated) * hidden
        rows = grouped_matmul(hidden, down, dispatch.layout, implementation)
        y = from_rows(rows, _varying(weights, mlp_axes), dispatch)
        if mlp_axes:
            y = jax.lax.psum(y, mlp_axes)
        if shared:
            y = jax.lax.psum_scatter(y, shared, tiled=True)
        return y.reshape(shape), statistics


def _varying(x, axes):
    return jax.lax.pcast(x, axes, to="varying") if axes else x
