"""The mixture-of-experts feed-forward, its experts split over the mesh."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.errors import ConfigError, ShardingError
from jaxgen.models.feedforward import FeedForward, activation
from jaxgen.models.parameters import gather, kernel, make_parameter
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.dispatch import from_rows, make_dispatch, to_rows, weighted_rows
from jaxgen.ops.grouped_matmul import default_implementation, grouped_matmul
from jaxgen.ops.initializers import zeros
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routing import RouterStatistics, capacity, route
from jaxgen.ops.taps import report
from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.layout import current_layout, length_is_whole, spec
from jaxgen.sharding.rules import mesh_is_set

BLOCK_ROWS = 128
"""Rows of a block of one expert: large enough for a fast product, small enough to pad little."""


class MoE(nnx.Module):
    """Router and experts; an expert is a feed-forward without biases."""

    def __init__(self, config: StackConfig, rngs: nnx.Rngs):
        if config.moe is None:
            raise ConfigError("a sparse block needs model.moe.")
        moe: MoEConfig = config.moe
        self.moe = moe
        self.activation = config.activation
        embed, mlp, experts = config.embed_dim, moe.mlp_dim, moe.num_experts
        gated = config.gated if moe.gated is None else moe.gated
        up, down = ("experts", "embed", "mlp"), ("experts", "mlp", "embed")
        start = kernel(config, embed, mlp, up)
        router = kernel(config, embed, experts, ("embed", None))
        self.router = make_parameter(rngs, (embed, experts), ("embed", None), router)
        self.router_bias = (
            make_parameter(rngs, (experts,), (None,), zeros) if moe.bias_balancing else None
        )
        shape = (experts, embed, mlp)
        self.up = make_parameter(rngs, shape, up, start)
        self.gate = make_parameter(rngs, shape, up, start) if gated else None
        start = kernel(config, mlp, embed, down, into_stream=True)
        self.down = make_parameter(rngs, (experts, mlp, embed), down, start)
        shared = moe.shared_mlp_dim
        self.shared = FeedForward(config, rngs, shared, gated) if shared else None

    def __call__(
        self, x: jax.Array, segment_ids: jax.Array, is_training: bool = False
    ) -> tuple[jax.Array, RouterStatistics]:
        """[batch, length, embed] -> the same, and the router's statistics.

        Args:
          x: the normed stream.
          segment_ids: [batch, length] int32; tokens of segment 0 are padding and no expert's.
          is_training: whether what an expert has no room for is dropped.

        Raises:
          ShardingError: if experts count the tokens of rows that are split over devices.
        """
        y, statistics = self._routed(x, segment_ids, is_training)
        y = y if self.shared is None else y + self.shared(x)
        return report("experts", y), statistics

    def feed(
        self, x: jax.Array, segment_ids: jax.Array, key: jax.Array | None
    ) -> tuple[jax.Array, RouterStatistics]:
        """Computes as a block asks for it; a key is of a training pass."""
        return self(x, segment_ids, is_training=key is not None)

    def _routed(self, x, segment_ids, is_training):
        rules, moe = current_layout().rules, self.moe
        if moe.capacity_factor is not None and not length_is_whole():
            raise ShardingError(
                f"moe.capacity_factor={moe.capacity_factor} counts the tokens of whole rows, which "
                f"rules.length={rules.length!r} splits; set mesh.sequence=1 or leave it out."
            )
        # The router decides in float32: a rounded tie would change the expert.
        router = gather(self.router, jnp.float32)
        bias = None if self.router_bias is None else gather(self.router_bias, jnp.float32)
        up, down = (gather(weight, x.dtype) for weight in (self.up, self.down))
        gate = None if self.gate is None else gather(self.gate, x.dtype)
        if not mesh_is_set():
            axes = _Axes((), (), ())
            return self._local(x, segment_ids, router, bias, up, gate, down, is_training, axes)
        token_axes = axis_names(rules.batch) + axis_names(rules.length)
        axes = _Axes(token_axes, axis_names(rules.experts), axis_names(rules.mlp))

        def local(x, segment_ids, router, bias, up, gate, down):
            # Cast here, the gradients of the weights are summed over tokens once, after the loops.
            other = tuple(axis for axis in axes.tokens if axis not in axes.experts)
            router = _varying(router, axes.tokens)
            up, gate, down = (None if w is None else _varying(w, other) for w in (up, gate, down))
            return self._local(x, segment_ids, router, bias, up, gate, down, is_training, axes)

        activations = spec("batch", "length", None)
        wide = rules.gathered(("experts", "embed", "mlp"))
        return jax.shard_map(
            local,
            in_specs=(
                activations,
                spec("batch", "length"),
                jax.P(),
                None if bias is None else jax.P(),
                wide,
                None if gate is None else wide,
                rules.gathered(("experts", "mlp", "embed")),
            ),
            out_specs=(activations, RouterStatistics(*[jax.P()] * 4)),
        )(x, segment_ids, router, bias, up, gate, down)

    def _local(
        self, x, segment_ids, router, bias, up, gate, down, is_training: bool, axes: _Axes
    ) -> tuple[jax.Array, RouterStatistics]:
        """Computes one device's part: its tokens, its experts, its share of their width."""
        shape = x.shape
        logits = jnp.matmul(x.astype(jnp.float32), router, precision=jax.lax.Precision.HIGHEST)
        routes, statistics = route(
            logits,
            segment_ids > 0,
            self.moe,
            bias,
            limit_capacity=is_training,
            axes=axes.tokens,
        )
        x = x.reshape(-1, shape[-1])
        experts, weights = routes
        # Devices that share tokens' replicas hold different experts: they see each other's tokens.
        shared = tuple(axis for axis in axes.experts if axis in axes.tokens)
        if shared:
            x, experts, weights = (
                jax.lax.all_gather(array, shared, tiled=True) for array in (x, experts, weights)
            )
        x = _varying(x, axes.mlp)
        weights = _varying(weights, axes.mlp)
        num_here = up.shape[0]
        first = jax.lax.axis_index(axes.experts) * num_here if axes.experts else 0
        dispatch = make_dispatch(
            experts, first, num_here, BLOCK_ROWS, self._max_assignments(experts, shape[1])
        )
        implementation = default_implementation()
        nonlinear = activation(self.activation)
        if self.moe.weigh == "input":
            rows = weighted_rows(x, weights, dispatch)
            weights = (experts < self.moe.num_experts).astype(weights.dtype)
        else:
            rows = to_rows(x, dispatch)
        hidden = grouped_matmul(rows, up, dispatch.blocks, implementation)
        if gate is None:
            hidden = nonlinear(hidden)
        else:
            hidden *= nonlinear(grouped_matmul(rows, gate, dispatch.blocks, implementation))
        rows = grouped_matmul(hidden, down, dispatch.blocks, implementation)
        y = from_rows(rows, weights, dispatch)
        if axes.mlp:
            y = jax.lax.psum(y, axes.mlp)
        if shared:
            y = jax.lax.psum_scatter(y, shared, tiled=True)
        return y.reshape(shape), statistics

    def _max_assignments(self, experts: jax.Array, length: int) -> int:
        """Returns a bound on the assignments of [tokens, choices] experts in rows of `length`."""
        tokens, choices = experts.shape
        if self.moe.router == "expert_choice":
            return tokens // length * self.moe.num_experts * capacity(self.moe, length)
        return tokens * choices


class Auxiliary(NamedTuple):
    """A loss that a model adds to any objective, and its figures.

    Attributes:
      loss: scalar, added for each unit of the objective's weight.
      means: [layers] each, reported by their mean over the layers.
      arrays: reported whole.
    """

    loss: Any
    means: dict[str, Any]
    arrays: dict[str, Any]


def router_losses(
    stacks: dict[str, tuple[MoEConfig | None, RouterStatistics | None]],
) -> Auxiliary | None:
    """Returns the weighted losses of all sparse layers, and their figures; None without any.

    Args:
      stacks: by the name that its figures have: the weights, and the statistics of each of its
        sparse layers, [sparse layers, ...].
    """
    total = None
    for name, (moe, statistics) in stacks.items():
        if moe is None or statistics is None:
            continue
        loss = moe.load_balance_weight * jnp.sum(statistics.load_balance_loss)
        loss += moe.router_z_weight * jnp.sum(statistics.z_loss)
        means = {
            f"{name}/load_balance_loss": statistics.load_balance_loss,
            f"{name}/z_loss": statistics.z_loss,
            f"{name}/dropped": statistics.dropped,
        }
        one = Auxiliary(loss, means, {f"{name}/load": statistics.load})
        total = (
            one
            if total is None
            else Auxiliary(total.loss + loss, total.means | means, total.arrays | one.arrays)
        )
    return total


def balance(stack: Any, load: jax.Array) -> None:
    """Moves a stack's routers' biases towards an even load, in place (2408.15664, algorithm 1).

    Args:
      stack: whose `config.moe.bias_balancing` is set.
      load: [sparse layers, experts], the share of a step's assignments, in the layers' order.
    """
    rate, first = stack.config.moe.balance_rate, 0
    even = 1 / load.shape[-1]
    # Rounding, which hangs on what the compiler fuses, must not move an expert of even load.
    errors = jnp.where(jnp.abs(even - load) > 1e-6 * even, jnp.sign(even - load), 0.0)
    for unit, repeats in zip(stack.groups, stack.repeats, strict=True):
        sparse = [block.feed_forward for block in unit.blocks if block.is_sparse]
        end = first + repeats * len(sparse)
        moves = rate * errors[first:end].reshape(repeats, len(sparse), errors.shape[-1])
        for place, layer in enumerate(sparse):
            layer.router_bias[...] += moves[:, place]
        first = end


class _Axes(NamedTuple):
    """The mesh axes over which tokens, experts and an expert's width are split."""

    tokens: tuple[str, ...]
    experts: tuple[str, ...]
    mlp: tuple[str, ...]


def _varying(x, axes):
    return jax.lax.pcast(x, axes, to="varying") if axes else x
