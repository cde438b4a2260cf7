"""Token-choice routing: each token picks its experts; the router's losses keep them in use."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RouterStatistics:
    """What a sparse layer reports of the tokens that are not padding; float32.

    Attributes:
      load: [experts], the share of the assignments that each expert got; they sum to 1.
      load_balance_loss: scalar, experts * sum(load * mean probability), 1 when even (Switch
        Transformer, 2101.03961, eq. 4, with assignments for tokens where there are several each).
      z_loss: scalar, the mean of log(Z)^2 of the router's logits (ST-MoE, 2202.08906, eq. 5).
    """

    load: Any
    load_balance_loss: Any
    z_loss: Any


class Routes(NamedTuple):
    """Where tokens go.

    Attributes:
      experts: [tokens, experts_per_token] int32; `num_experts`, which is none, for padding.
      weights: [tokens, experts_per_token] float32, of each expert's output.
    """

    experts: Any
    weights: Any


def route(
    logits: jax.Array,
    is_token: jax.Array,
    experts_per_token: int,
    normalize: bool,
    axes: tuple[str, ...] = (),
) -> tuple[Routes, RouterStatistics]:
    """Chooses the experts of largest probability.

    Args:
      logits: [tokens, experts] float32.
      is_token: [tokens] bool, False for padding.
      experts_per_token: how many experts a token is sent to.
      normalize: whether the chosen probabilities are scaled to sum to 1.
      axes: inside shard_map, the mesh axes over which tokens are split; statistics are then of all
        tokens, so that they do not depend on the mesh.
    """
    num_experts = logits.shape[-1]
    probabilities = jax.nn.softmax(logits, axis=-1)
    weights, experts = jax.lax.top_k(probabilities, experts_per_token)
    if normalize:
        weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    chosen = experts[..., None] == jnp.arange(num_experts)
    is_real = is_token.astype(jnp.float32)
    sums = (
        jnp.sum(is_real),
        jnp.sum(is_real[:, None] * jnp.sum(chosen, axis=1), axis=0),
        jnp.sum(is_real[:, None] * probabilities, axis=0),
        jnp.sum(is_real * jnp.square(jax.nn.logsumexp(logits, axis=-1))),
    )
    tokens, counts, probability, squares = jax.lax.psum(sums, axes) if axes else sums
    tokens = jnp.maximum(tokens, 1.0)
    load = counts / (tokens * experts_per_token)
    statistics = RouterStatistics(
        load=load,
        load_balance_loss=num_experts * jnp.sum(load * probability / tokens),
        z_loss=squares / tokens,
    )
    experts = jnp.where(is_token[:, None], experts, num_experts)
    return Routes(experts.astype(jnp.int32), weights), statistics
