"""Routing: which experts a token visits, with what weight, and how evenly they are used."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routed_tokens import RoutedTokens


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RouterStatistics:
    """Sums over the tokens of a sparse layer that are not padding, and what follows from them.

    Sums of parts of a batch add to those of the batch. All are float32, [...] for several layers.

    Attributes:
      tokens: [...], their number.
      assigned: [..., experts], assignments to each expert.
      probability: [..., experts], the router's of each expert.
      squares: [...], of log(Z) of the router's logits.
      unplaced: [...], assignments for which an expert had no room.
      surprise: [...], entropies of the router's probabilities, in nats.
      rows: [...], the number of rows with tokens.
      imbalance: [...], the sum of the rows' own load-balance losses.
      by_task: [..., tasks, experts], assignments of each task's tokens; None if not counted.
    """

    tokens: Any
    assigned: Any
    probability: Any
    squares: Any
    unplaced: Any
    surprise: Any
    rows: Any
    imbalance: Any
    by_task: Any = None

    @property
    def load(self) -> jax.Array:
        """The share of the assignments that each expert got, [..., experts]; they sum to 1."""
        return self.assigned / self._assignments[..., None]

    @property
    def load_balance_loss(self) -> jax.Array:
        """Experts * sum(load * mean probability), [...], 1 when even.

        That is Switch Transformer's (2101.03961, eq. 4), with assignments for tokens where there
        are several each.
        """
        mean = self.probability / jnp.maximum(self.tokens, 1.0)[..., None]
        return self.assigned.shape[-1] * jnp.sum(self.load * mean, axis=-1)

    @property
    def sequence_balance_loss(self) -> jax.Array:
        """The mean over rows of their own load-balance loss, [...] (DeepSeek-V3, eqs. 17-20)."""
        return self.imbalance / jnp.maximum(self.rows, 1.0)

    @property
    def z_loss(self) -> jax.Array:
        """The mean of log(Z)^2 of the router's logits, [...] (ST-MoE, 2202.08906, eq. 5)."""
        return self.squares / jnp.maximum(self.tokens, 1.0)

    @property
    def dropped(self) -> jax.Array:
        """The share of the assignments for which an expert had no room, [...]."""
        return self.unplaced / self._assignments

    @property
    def max_violation(self) -> jax.Array:
        """How far the largest load is above an even one, as a share of that (2408.15664, eq. 4)."""
        return self.assigned.shape[-1] * jnp.max(self.load, axis=-1) - 1

    @property
    def entropy(self) -> jax.Array:
        """The mean entropy of the router's probabilities for a token, [...] nats."""
        return self.surprise / jnp.maximum(self.tokens, 1.0)

    @property
    def _assignments(self) -> jax.Array:
        return jnp.maximum(jnp.sum(self.assigned, axis=-1), 1.0)


class Routes(NamedTuple):
    """Routes tell which experts tokens go to.

    Attributes:
      experts: [tokens, choices] int32; `num_experts`, which is none, for padding and what is
        dropped. Choices are experts_per_token, or all experts where experts choose.
      weights: [tokens, choices] float32, of each expert.
    """

    experts: Any
    weights: Any


class Auxiliary(NamedTuple):
    """A loss that a model adds to any objective, and its figures.

    Attributes:
      loss: scalar, added for each unit of the objective's weight.
      means: [layers] each, reported by their mean over the layers.
      arrays: reported whole.
      by_task: assignments [layers, tasks, experts], reported for each task by the expert's share.
    """

    loss: Any
    means: dict[str, Any]
    arrays: dict[str, Any]
    by_task: dict[str, Any]


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
        figures = ["load_balance_loss", "z_loss", "dropped", "max_violation", "entropy"]
        if moe.sequence_balance_weight:
            loss += moe.sequence_balance_weight * jnp.sum(statistics.sequence_balance_loss)
            figures.append("sequence_balance_loss")
        means = {f"{name}/{figure}": getattr(statistics, figure) for figure in figures}
        counted = {} if statistics.by_task is None else {f"{name}/load": statistics.by_task}
        one = Auxiliary(loss, means, {f"{name}/load": statistics.load}, counted)
        total = (
            one
            if total is None
            else Auxiliary(
                total.loss + loss,
                total.means | means,
                total.arrays | one.arrays,
                total.by_task | counted,
            )
        )
    return total


def route(
    logits: jax.Array,
    tokens: RoutedTokens,
    moe: MoEConfig,
    bias: jax.Array | None = None,
    *,
    is_training: bool = False,
    draws: jax.Array | None = None,
    batch_axes: tuple[str, ...] = (),
    length_axes: tuple[str, ...] = (),
) -> tuple[Routes, RouterStatistics]:
    """Sends tokens to experts.

    Args:
      logits: [batch, length, experts] float32.
      tokens: which are padding, and of which tasks they are.
      moe: how.
      bias: [experts] float32, added to the scores where experts are chosen only.
      is_training: whether `moe.capacity_factor` applies.
      draws: [batch, length], uniform from 0 to 1, of a training pass with `moe.second_threshold`.
      batch_axes: inside shard_map, the mesh axes over which rows are split; statistics are then of
        all tokens, so that they do not depend on the mesh.
      length_axes: those over which the length of a row is split.

    Returns:
      Routes of the batch * length tokens, and the statistics.
    """
    batch, length, num_experts = logits.shape
    is_token = tokens.segment_ids > 0
    sigmoid = moe.scores == "sigmoid"
    scores = jax.nn.sigmoid(logits) if sigmoid else jax.nn.softmax(logits, axis=-1)
    if moe.router == "expert_choice":
        experts, weights = _experts_choose(scores, is_token, moe)
    else:
        experts, weights = _tokens_choose(scores, moe, bias)
        if draws is not None:
            experts = _with_random_second(experts, weights, draws, moe)
    assigned = (experts < num_experts) & is_token[..., None]
    kept = assigned
    if moe.limits_capacity(is_training) and moe.router == "top_k":
        kept &= _has_room(jnp.where(assigned, experts, num_experts), num_experts, moe)
    chosen = (experts[..., None] == jnp.arange(num_experts)) & assigned[..., None]
    real = is_token.astype(jnp.float32)
    probabilities = scores / jnp.sum(scores, axis=-1, keepdims=True) if sigmoid else scores
    by_row = (
        jnp.sum(real, axis=1),
        jnp.sum(chosen.astype(jnp.float32), axis=(1, 2)),
        jnp.sum(real[..., None] * probabilities, axis=1),
    )
    entropies = -jnp.sum(jax.scipy.special.xlogy(probabilities, probabilities), axis=-1)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    dropped = (assigned & ~kept).astype(jnp.float32)
    sums = tuple(jnp.sum(x) for x in (real * jnp.square(log_z), dropped, real * entropies))
    if length_axes:
        by_row, sums = jax.lax.psum((by_row, sums), length_axes)
    squares, unplaced, surprise = sums
    number, counts, probability = (jnp.sum(x, axis=0) for x in by_row)
    by_task = _by_task(chosen, tokens, length_axes)
    statistics = RouterStatistics(
        number, counts, probability, squares, unplaced, surprise, *_of_rows(*by_row), by_task
    )
    if batch_axes:
        statistics = jax.lax.psum(statistics, batch_axes)
    experts = jnp.where(kept, experts, num_experts).astype(jnp.int32)
    flat = (batch * length, -1)
    return Routes(experts.reshape(flat), weights.reshape(flat)), statistics


def _by_task(chosen, tokens: RoutedTokens, length_axes) -> jax.Array | None:
    """Returns [tasks, experts], how many assignments of each task's tokens go to each expert."""
    if tokens.task_ids is None:
        return None
    is_task = tokens.task_ids[..., None] == jnp.arange(tokens.num_tasks)
    counts = jnp.sum(chosen.astype(jnp.float32), axis=2)
    found = jnp.einsum("blt,ble->te", is_task.astype(jnp.float32), counts)
    return jax.lax.psum(found, length_axes) if length_axes else found


def _of_rows(tokens, assigned, probability) -> tuple[jax.Array, jax.Array]:
    """Returns how many rows have tokens, and the sum of the rows' load-balance losses."""
    share = assigned / jnp.maximum(jnp.sum(assigned, axis=-1, keepdims=True), 1.0)
    mean = probability / jnp.maximum(tokens, 1.0)[:, None]
    return jnp.sum((tokens > 0).astype(jnp.float32)), share.shape[-1] * jnp.sum(share * mean)


def _with_random_second(experts, weights, draws, moe: MoEConfig):
    """Leaves second experts out at random; see `MoEConfig.second_threshold`."""
    share = weights[..., 1] / (jnp.sum(weights, axis=-1) + 1e-20)
    is_used = draws * moe.second_threshold < share
    return experts.at[..., 1].set(jnp.where(is_used, experts[..., 1], moe.num_experts))


def capacity(moe: MoEConfig, length: int) -> int:
    """Returns how many tokens of a row one expert takes."""
    even = length * moe.experts_per_token / moe.num_experts
    return min(length, math.ceil((moe.capacity_factor or 0) * even))


def most_assignments(
    moe: MoEConfig, rows: int, length: int, num_experts: int, limits_capacity: bool
) -> int:
    """Returns a bound on the assignments of `rows` rows of tokens to any `num_experts` experts."""
    if limits_capacity:
        return rows * num_experts * capacity(moe, length)
    return rows * length * min(moe.experts_per_token, num_experts)


def _tokens_choose(scores, moe: MoEConfig, bias):
    """Returns the best experts, [batch, length, experts_per_token], and their weights."""
    ranking = scores if bias is None else scores + jax.lax.stop_gradient(bias)
    if moe.groups > 1:
        grouped = ranking.reshape(*ranking.shape[:-1], moe.groups, -1)
        best = jnp.sum(jax.lax.top_k(grouped, 2 if moe.bias_balancing else 1)[0], axis=-1)
        threshold = jax.lax.top_k(best, moe.groups_per_token)[0][..., -1:]
        grouped = jnp.where((best >= threshold)[..., None], grouped, -jnp.inf)
        ranking = grouped.reshape(ranking.shape)
    _, experts = jax.lax.top_k(ranking, moe.experts_per_token)
    weights = jnp.take_along_axis(scores, experts, axis=-1)
    if moe.normalize_top_k:
        weights = weights / (jnp.sum(weights, axis=-1, keepdims=True) + 1e-20)
    return experts, weights * moe.scale


def _experts_choose(scores, is_token, moe: MoEConfig):
    """Gives each expert the tokens of a row that score highest with it (2202.09368)."""
    num_experts = scores.shape[-1]
    ranking = jnp.where(is_token[..., None], scores, -1.0).swapaxes(1, 2)
    _, tokens = jax.lax.top_k(ranking, capacity(moe, scores.shape[1]))
    taken = jnp.zeros(ranking.shape, bool)
    taken = jnp.put_along_axis(taken, tokens, True, axis=-1, inplace=False).swapaxes(1, 2)
    experts = jnp.where(taken, jnp.arange(num_experts), num_experts)
    return experts, scores * moe.scale


def _has_room(experts, num_experts: int, moe: MoEConfig):
    """Returns which of [batch, length, choices] assignments come before their expert is full.

    All first choices of a row come before all second ones, each in the order of the row.
    """
    batch, length, choices = experts.shape
    queue = experts.swapaxes(1, 2).reshape(batch, choices * length)
    is_for = queue[..., None] == jnp.arange(num_experts)
    before = jnp.cumsum(is_for, axis=1, dtype=jnp.int32) - is_for
    rank = jnp.sum(jnp.where(is_for, before, 0), axis=-1)
    has_room = rank < capacity(moe, length)
    return has_room.reshape(batch, choices, length).swapaxes(1, 2)
