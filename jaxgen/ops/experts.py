"""The experts of a sparse feed-forward, on one device or on one of many inside shard_map."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.ops.dispatch import from_rows, make_dispatch, pack_rows
from jaxgen.ops.expert_exchange import choose_exchange, exchange_and_compute
from jaxgen.ops.grouped_matmul import KERNELS, Implementation, grouped_matmul
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.ops.routing import RouterStatistics, most_assignments, route
from jaxgen.sharding.layout import current_layout
from jaxgen.sharding.rules import varying

CLIPPED_SLOPE = 1.702
BLOCK_ROWS = 128
"""Rows of a block of one expert: large enough for a fast product, small enough to pad little."""


class ExpertWeights(NamedTuple):
    """The weights of a sparse layer; those that it lacks are None.

    Attributes:
      router: [embed, experts] float32.
      router_bias: [experts] float32, added where experts are chosen only.
      up: [experts, embed, mlp].
      gate: [experts, embed, mlp].
      down: [experts, mlp, embed].
      router_shift: [experts] float32, added to the router's logits.
      up_bias: [experts, mlp].
      gate_bias: [experts, mlp].
      down_bias: [experts, embed].
    """

    router: Any
    router_bias: Any
    up: Any
    gate: Any
    down: Any
    router_shift: Any = None
    up_bias: Any = None
    gate_bias: Any = None
    down_bias: Any = None


class SplitOver(NamedTuple):
    """The mesh axes over which rows, their length, experts and an expert's width are split."""

    batch: tuple[str, ...] = ()
    length: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()
    mlp: tuple[str, ...] = ()

    @property
    def tokens(self) -> tuple[str, ...]:
        """Those over which tokens are split."""
        return self.batch + self.length


def run_experts(
    x: jax.Array,
    tokens: RoutedTokens,
    weights: ExpertWeights,
    draws: jax.Array | None,
    moe: MoEConfig,
    nonlinear: Callable[[jax.Array], jax.Array],
    is_training: bool,
    axes: SplitOver,
    implementation: Implementation,
) -> tuple[jax.Array, RouterStatistics]:
    """Computes one device's part: its tokens, its experts, its share of their width.

    Args:
      x: [batch, length, embed].
      tokens: what the router knows of them.
      weights: of the experts that are here.
      draws: [batch, length], uniform from 0 to 1, where the second expert is random.
      moe: how tokens are routed.
      nonlinear: the activation.
      is_training: whether what an expert has no room for is dropped.
      axes: inside shard_map, what is split over which mesh axes.
      implementation: of the experts' products.

    Returns:
      [batch, length, embed], and the router's statistics of all tokens.
    """
    shape = x.shape
    weights = _ready(weights, axes)
    logits = jnp.matmul(x.astype(jnp.float32), weights.router, precision=jax.lax.Precision.HIGHEST)
    if weights.router_shift is not None:
        logits = logits + weights.router_shift
    (experts, shares), statistics = route(
        logits,
        tokens,
        moe,
        weights.router_bias,
        is_training=is_training,
        draws=draws,
        batch_axes=axes.batch,
        length_axes=axes.length,
    )
    x, shares = varying(x.reshape(-1, shape[-1]), axes.mlp), varying(shares, axes.mlp)
    own = weights._replace(router=None, router_bias=None, router_shift=None)
    limits = moe.limits_capacity(is_training)
    sizes = {axis: jax.lax.axis_size(axis) for axis in axes.experts}
    exchange = choose_exchange(
        current_layout().expert_exchange, moe, shape[0], shape[1], limits, sizes, axes.tokens
    )
    feed = functools.partial(_feed, moe, nonlinear, implementation)
    add_up: Any = _sum_for_kernels if implementation in KERNELS else jax.lax.psum
    if exchange is not None:

        def compute(rows, ids, own):
            whole = jnp.ones_like(shares, shape=(len(ids), 1))
            return feed("output", rows, ids[:, None], whole, own, 0, len(ids))

        y = exchange_and_compute(x, experts, shares, own, exchange, moe.weigh, compute)
        y = add_up(y, axes.mlp) if axes.mlp else y
        return y.reshape(shape), statistics
    # Devices that share tokens' replicas hold different experts: they see each other's tokens.
    shared = tuple(axis for axis in axes.experts if axis in axes.tokens)
    if shared:
        x, experts, shares = (
            jax.lax.all_gather(array, shared, tiled=True) for array in (x, experts, shares)
        )
    num_here = weights.up.shape[0]
    first = jax.lax.axis_index(axes.experts) * num_here if axes.experts else 0
    most = most_assignments(moe, len(x) // shape[1], shape[1], num_here, limits)
    y = feed(moe.weigh, x, experts, shares, own, first, most)
    y = add_up(y, axes.mlp) if axes.mlp else y
    if shared:
        y = jax.lax.psum_scatter(y, shared, tiled=True)
    return y.reshape(shape), statistics


def _ready(weights: ExpertWeights, axes: SplitOver) -> ExpertWeights:
    """Returns the weights as differing over all axes that what they multiply differs over.

    Cast here, their gradients are summed over tokens once, after the loops.
    """
    other = tuple(axis for axis in axes.tokens if axis not in axes.experts)

    def ready(name, weight):
        if weight is None or name == "router_bias":
            return weight
        if name == "down_bias":  # Of a width that is split, each part adds its share of it.
            parts = math.prod(jax.lax.axis_size(axis) for axis in axes.mlp)
            weight = varying(weight, axes.mlp) / parts
        return varying(weight, axes.tokens if name.startswith("router") else other)

    return ExpertWeights(*map(ready, weights._fields, weights))


def _feed(
    moe: MoEConfig,
    nonlinear: Callable[[jax.Array], jax.Array],
    implementation: Implementation,
    weigh: str,
    x: jax.Array,
    experts: jax.Array,
    shares: jax.Array,
    weights: ExpertWeights,
    first: jax.Array | int,
    most: int,
) -> jax.Array:
    """Runs the experts that are here, from `first` on, for at most `most` assignments to them."""
    dispatch, blocks = make_dispatch(experts, first, weights.up.shape[0], BLOCK_ROWS, most)
    rows, shares = pack_rows(x, shares, dispatch, weigh)

    def product(rows, matrices, bias):
        y = grouped_matmul(rows, matrices, blocks, implementation)
        if bias is None:
            return y
        of_block = bias[blocks.block_groups]
        return (y.reshape(-1, BLOCK_ROWS, y.shape[-1]) + of_block[:, None]).reshape(y.shape)

    hidden = product(rows, weights.up, weights.up_bias)
    if weights.gate is None:
        hidden = nonlinear(hidden)
    elif moe.clip is None:
        hidden *= nonlinear(product(rows, weights.gate, weights.gate_bias))
    else:
        gates = jnp.minimum(product(rows, weights.gate, weights.gate_bias), moe.clip)
        hidden = jnp.clip(hidden, -moe.clip, moe.clip) + 1
        hidden *= gates * jax.nn.sigmoid(CLIPPED_SLOPE * gates)
    return from_rows(product(hidden, weights.down, weights.down_bias), shares, dispatch)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _sum_for_kernels(y, axes):
    """Returns `jax.lax.psum` where axes are not checked: its own gradient would be a sum as well.

    What comes back is the same on all devices, and of each the share that shard_map gives it.
    """
    return jax.lax.psum(y, axes)


_sum_for_kernels.defvjp(
    lambda y, axes: (jax.lax.psum(y, axes), None),
    lambda axes, _, gradient: (gradient * math.prod(jax.lax.axis_size(axis) for axis in axes),),
)
