"""The mixture-of-experts feed-forward, its experts split over the mesh."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.errors import ConfigError, ShardingError
from jaxgen.models.feedforward import FeedForward
from jaxgen.models.parameters import gather, kernel, make_parameter, project
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.activations import activation
from jaxgen.ops.experts import ExpertWeights, SplitOver, run_experts
from jaxgen.ops.grouped_matmul import KERNELS, default_implementation
from jaxgen.ops.initializers import zeros
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.ops.routing import RouterStatistics
from jaxgen.ops.taps import report
from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.layout import current_layout, length_is_whole, spec
from jaxgen.sharding.rules import free_axes, mesh_is_set, num_parts


class MoE(nnx.Module):
    """Router and experts; an expert is a feed-forward."""

    def __init__(self, config: StackConfig, rngs: nnx.Rngs):
        if config.moe is None:
            raise ConfigError("a sparse block needs model.moe.")
        moe: MoEConfig = config.moe
        self.moe = moe
        self.activation = config.activation
        embed, mlp, experts = config.embed_dim, moe.mlp_dim, moe.num_experts
        gated = config.gated if moe.gated is None else moe.gated
        up, down, column = ("experts", "embed", "mlp"), ("experts", "mlp", "embed"), ("embed", None)

        def parameter(shape, axes, start, is_there: bool = True) -> Any:
            return make_parameter(rngs, shape, axes, start) if is_there else None

        self.router = parameter((embed, experts), column, kernel(config, embed, experts, column))
        self.router_bias = parameter((experts,), (None,), zeros, moe.bias_balancing)
        shape, start = (experts, embed, mlp), kernel(config, embed, mlp, up)
        self.up = parameter(shape, up, start)
        self.gate = parameter(shape, up, start, gated)
        start = kernel(config, mlp, embed, down, into_stream=True)
        self.down = parameter((experts, mlp, embed), down, start)
        self.router_shift = parameter((experts,), (None,), zeros, moe.biases)
        self.up_bias = parameter((experts, mlp), ("experts", "mlp"), zeros, moe.biases)
        self.gate_bias = parameter((experts, mlp), ("experts", "mlp"), zeros, moe.biases and gated)
        self.down_bias = parameter((experts, embed), ("experts", "embed"), zeros, moe.biases)
        shared = moe.shared_mlp_dim
        self.shared = FeedForward(config, rngs, shared, gated) if shared else None
        start = kernel(config, embed, 1, column)
        self.shared_gate = parameter((embed, 1), column, start, moe.shared_gate)

    def __call__(
        self, x: jax.Array, tokens: RoutedTokens, key: jax.Array | None = None
    ) -> tuple[jax.Array, RouterStatistics]:
        """Maps [batch, length, embed] to the same, and the router's statistics.

        Args:
          x: the normed stream.
          tokens: what the router knows of them.
          key: of a training pass, in which what an expert has no room for is dropped.

        Raises:
          ShardingError: if experts count the tokens of rows that are split over devices.
        """
        y, statistics = self._routed(x, tokens, key)
        if self.shared is not None:
            shared = self.shared(x)
            if self.shared_gate is not None:
                shared = jax.nn.sigmoid(project(x, self.shared_gate)) * shared
            y = y + shared
        return report("experts", y), statistics

    def feed(
        self, x: jax.Array, tokens: RoutedTokens, key: jax.Array | None
    ) -> tuple[jax.Array, RouterStatistics]:
        """Computes as a block asks for it."""
        return self(x, tokens, key)

    def _routed(self, x, tokens, key):
        rules, moe = current_layout().rules, self.moe
        if moe.capacity_factor is not None and not length_is_whole():
            raise ShardingError(
                f"moe.capacity_factor={moe.capacity_factor} counts the tokens of whole rows, which "
                f"rules.length={rules.length!r} splits; set mesh.sequence=1 or leave it out."
            )
        parameters = {name: getattr(self, name) for name in ExpertWeights._fields}
        # The router decides in float32: a rounded tie would change the expert.
        dtypes = {name: jnp.float32 if "router" in name else x.dtype for name in parameters}
        weights = ExpertWeights(
            **{name: p if p is None else gather(p, dtypes[name]) for name, p in parameters.items()}
        )
        width = moe.mlp_dim // num_parts(axis_names(rules.mlp))
        implementation = default_implementation((x.shape[-1], width), x.dtype)
        run = functools.partial(
            run_experts,
            moe=moe,
            nonlinear=activation(self.activation),
            is_training=key is not None,
            implementation=implementation,
        )
        draws = None
        if key is not None and moe.second_threshold is not None:
            layout = jax.typeof(tokens.segment_ids).sharding if mesh_is_set() else None
            draws = jax.random.uniform(key, x.shape[:2], out_sharding=layout)
        if not mesh_is_set():
            return run(x, tokens, weights, draws, axes=SplitOver())
        split = rules.batch, rules.length, rules.experts, rules.mlp
        axes = SplitOver(*map(axis_names, split))
        activations, of_tokens = spec("batch", "length", None), spec("batch", "length")
        weights_split = jax.tree.map(lambda weight: jax.typeof(weight).sharding.spec, weights)
        return jax.shard_map(
            functools.partial(run, axes=axes),
            in_specs=(activations, of_tokens, weights_split, of_tokens),
            out_specs=(activations, jax.P()),
            axis_names=free_axes(),
            # Kernels do not say of their results over which axes they differ.
            check_vma=implementation not in KERNELS,
        )(x, tokens, weights, draws)


def balance(stack: Any, load: jax.Array) -> None:
    """Moves a stack's routers' biases towards an even load, in place (2408.15664, algorithm 1).

    Args:
      stack: whose `config.moe.bias_balancing` is set.
      load: [sparse layers, experts], the share of a step's assignments, in the layers' order; all 0
        after a step without tokens, which moves nothing.
    """
    rate, first = stack.config.moe.balance_rate, 0
    even = jnp.sum(load, axis=-1, keepdims=True) / load.shape[-1]
    # Rounding, which hangs on what the compiler fuses, must not move an expert of even load.
    errors = jnp.where(jnp.abs(even - load) > 1e-6 * even, jnp.sign(even - load), 0.0)
    for unit, repeats in zip(stack.groups, stack.repeats, strict=True):
        sparse = [block.feed_forward for block in unit.blocks if block.is_sparse]
        end = first + repeats * len(sparse)
        moves = rate * errors[first:end].reshape(repeats, len(sparse), errors.shape[-1])
        for place, layer in enumerate(sparse):
            layer.router_bias[...] += moves[:, place]
        first = end
