"""The experts of a sparse feed-forward, on one device or on one of many inside shard_map."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.ops.dispatch import from_rows, make_dispatch, to_rows, weighted_rows
from jaxgen.ops.grouped_matmul import default_implementation, grouped_matmul
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routing import RouterStatistics, capacity, route

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
    """The mesh axes over which tokens, experts and an expert's width are split."""

    tokens: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()
    mlp: tuple[str, ...] = ()


def run_experts(
    x: jax.Array,
    segment_ids: jax.Array,
    weights: ExpertWeights,
    moe: MoEConfig,
    nonlinear: Callable[[jax.Array], jax.Array],
    is_training: bool,
    axes: SplitOver,
) -> tuple[jax.Array, RouterStatistics]:
    """Computes one device's part: its tokens, its experts, its share of their width.

    Args:
      x: [batch, length, embed].
      segment_ids: [batch, length] int32; tokens of segment 0 are padding and no expert's.
      weights: of the experts that are here.
      moe: how tokens are routed.
      nonlinear: the activation.
      is_training: whether what an expert has no room for is dropped.
      axes: inside shard_map, what is split over which mesh axes.

    Returns:
      [batch, length, embed], and the router's statistics of all tokens.
    """
    # Cast here, the gradients of the weights are summed over tokens once, after the loops.
    other = tuple(axis for axis in axes.tokens if axis not in axes.experts)
    router = _varying(weights.router, axes.tokens)
    up, down = _varying(weights.up, other), _varying(weights.down, other)
    gate = None if weights.gate is None else _varying(weights.gate, other)
    up_bias, gate_bias, down_bias = (
        None if bias is None else _varying(bias, other)
        for bias in (weights.up_bias, weights.gate_bias, weights.down_bias)
    )
    if down_bias is not None:  # Of a width that is split, each part adds its share of it.
        parts = math.prod(jax.lax.axis_size(axis) for axis in axes.mlp)
        down_bias = _varying(down_bias, axes.mlp) / parts
    shape = x.shape
    logits = jnp.matmul(x.astype(jnp.float32), router, precision=jax.lax.Precision.HIGHEST)
    if weights.router_shift is not None:
        logits = logits + _varying(weights.router_shift, axes.tokens)
    routes, statistics = route(
        logits,
        segment_ids > 0,
        moe,
        weights.router_bias,
        limit_capacity=is_training,
        axes=axes.tokens,
    )
    x = x.reshape(-1, shape[-1])
    experts, shares = routes
    # Devices that share tokens' replicas hold different experts: they see each other's tokens.
    shared = tuple(axis for axis in axes.experts if axis in axes.tokens)
    if shared:
        x, experts, shares = (
            jax.lax.all_gather(array, shared, tiled=True) for array in (x, experts, shares)
        )
    x = _varying(x, axes.mlp)
    shares = _varying(shares, axes.mlp)
    num_here = up.shape[0]
    first = jax.lax.axis_index(axes.experts) * num_here if axes.experts else 0
    most = _max_assignments(moe, experts, shape[1])
    dispatch = make_dispatch(experts, first, num_here, BLOCK_ROWS, most)
    if moe.weigh == "input":
        rows = weighted_rows(x, shares, dispatch)
        shares = (experts < moe.num_experts).astype(shares.dtype)
    else:
        rows = to_rows(x, dispatch)
    implementation = default_implementation()

    def product(rows, matrices, bias):
        y = grouped_matmul(rows, matrices, dispatch.blocks, implementation)
        if bias is None:
            return y
        of_block = bias[dispatch.blocks.block_groups]
        return (y.reshape(-1, BLOCK_ROWS, y.shape[-1]) + of_block[:, None]).reshape(y.shape)

    hidden = product(rows, up, up_bias)
    if gate is None:
        hidden = nonlinear(hidden)
    elif moe.clip is None:
        hidden *= nonlinear(product(rows, gate, gate_bias))
    else:
        gates = jnp.minimum(product(rows, gate, gate_bias), moe.clip)
        hidden = jnp.clip(hidden, -moe.clip, moe.clip) + 1
        hidden *= gates * jax.nn.sigmoid(CLIPPED_SLOPE * gates)
    rows = product(hidden, down, down_bias)
    y = from_rows(rows, shares, dispatch)
    if axes.mlp:
        y = jax.lax.psum(y, axes.mlp)
    if shared:
        y = jax.lax.psum_scatter(y, shared, tiled=True)
    return y.reshape(shape), statistics


def _max_assignments(moe: MoEConfig, experts: jax.Array, length: int) -> int:
    """Returns a bound on the assignments of [tokens, choices] experts in rows of `length`."""
    tokens, choices = experts.shape
    if moe.router == "expert_choice":
        return tokens // length * moe.num_experts * capacity(moe, length)
    return tokens * choices


def _varying(x, axes):
    return jax.lax.pcast(x, axes, to="varying") if axes else x
