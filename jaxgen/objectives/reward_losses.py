"""Losses of reward models as functions of arrays: comparisons of any number, and scored steps."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Ties = Literal["skip", "half"]


class Comparisons(NamedTuple):
    """What comparisons of completions of the same prompts come to, [prompts] float32.

    Attributes:
      loss: the mean over the pairs of a prompt.
      is_compared: 1 where there is a pair, 0 where there is none.
      accuracy: the mean over its pairs that are no ties; a tie of the rewards counts half.
      decided: 1 where there is such a pair.
      margin: the mean of the better's reward minus the worse's over such pairs.
    """

    loss: jax.Array
    is_compared: jax.Array
    accuracy: jax.Array
    decided: jax.Array
    margin: jax.Array


def compare(
    rewards: ArrayLike,
    scores: ArrayLike,
    is_there: ArrayLike,
    preference: ArrayLike | None = None,
    margin_scale: float = 0.0,
    centring: float = 0.0,
    ties: Ties = "skip",
) -> Comparisons:
    """Returns the Bradley-Terry losses of all pairs of completions of each prompt.

    The loss of a pair is -log sigmoid(r_w - r_l - margin), and of a prompt the mean over its
    K (K - 1) / 2 pairs, which are one element of a batch (InstructGPT, 2203.02155, 1).

    Args:
      rewards: [prompts, K], r.
      scores: [prompts, K], which of two completions is the better, and by how much.
      is_there: [prompts, K], 1 where there is a completion.
      preference: [prompts], the probability that the first of two is the better, for K = 2; None:
        as the scores have it.
      margin_scale: on the difference of scores, which is the margin (Llama 2, 2307.09288, 2).
      centring: weight of (r_1 + r_2)^2, which keeps rewards about 0 (2312.09244).
      ties: whether pairs of equal scores are left out, or each is the better with probability 1/2.
    """
    r, s, there = (jnp.asarray(x, jnp.float32) for x in (rewards, scores, is_there))
    r, s = (jnp.where(there > 0, x, 0.0) for x in (r, s))  # What is not there may be no number.
    count = r.shape[1]
    difference, above = r[:, :, None] - r[:, None], s[:, :, None] - s[:, None]
    once = jnp.triu(jnp.ones((count, count), jnp.float32), 1)
    pairs = there[:, :, None] * there[:, None] * once
    wins = 0.5 * (1 + jnp.sign(above))
    if preference is not None:
        wins = jnp.broadcast_to(jnp.asarray(preference)[:, None, None], wins.shape)
    elif ties == "skip":
        pairs = pairs * (above != 0)
    margin = margin_scale * jnp.abs(above)
    losses = wins * jax.nn.softplus(margin - difference)
    losses += (1 - wins) * jax.nn.softplus(margin + difference)
    losses += centring * jnp.square(r[:, :, None] + r[:, None])
    decided = pairs * (wins != 0.5)
    better = jnp.sign(wins - 0.5) * difference
    return Comparisons(
        _mean(losses, pairs),
        _is_any(pairs),
        _mean(0.5 * (1 + jnp.sign(better)), decided),
        _is_any(decided),
        _mean(better, decided),
    )


def step_losses(rewards: ArrayLike, scores: ArrayLike) -> jax.Array:
    """Returns the cross-entropies of scored steps (2305.20050), as `rewards` in shape.

    Args:
      rewards: logits of a step's being right.
      scores: the probability that it is, in [0, 1].
    """
    r, right = jnp.asarray(rewards), jnp.asarray(scores)
    return right * jax.nn.softplus(-r) + (1 - right) * jax.nn.softplus(r)


def _mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the mean over the pairs of each prompt, 0 where there is none."""
    return jnp.sum(values * weights, (1, 2)) / jnp.maximum(jnp.sum(weights, (1, 2)), 1.0)


def _is_any(weights: jax.Array) -> jax.Array:
    return (jnp.sum(weights, (1, 2)) > 0).astype(jnp.float32)
