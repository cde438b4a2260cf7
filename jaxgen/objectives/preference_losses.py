"""Losses of preferences as functions of arrays: DPO and its relatives, and KTO.

A pair's losses are functions of one number of each completion, h: the logarithm of its probability
under the policy over that under the reference, or of its probability alone, where a method has no
reference; summed over the completion's tokens, or their mean. beta * h is what the policy takes the
completion's reward to be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

PairKind = Literal[
    "dpo", "robust", "ipo", "hinge", "apo_zero", "apo_down", "cpo", "simpo", "orpo"
]  # fmt: skip
LEAST_SURPRISE = 1e-6
"""Nats a token below which the odds of a completion are taken for those of this surprise."""


class PairOptions(NamedTuple):
    """The settings of the losses of pairs.

    Attributes:
      beta: scale of h (tau of IPO, lambda of ORPO).
      margin: by how much beta * h of the better completion has to be larger (gamma of SimPO).
      flip_rate: the share of labels that the robust loss takes to be wrong.
    """

    beta: Any
    margin: Any = 0.0
    flip_rate: Any = 0.0


class PairMethod(NamedTuple):
    """What tells a method of learning from pairs from others.

    Attributes:
      loss: maps h of the better and of the worse completions, [pairs], and options to [pairs].
      has_reference: whether h is relative to a reference.
      per_token: whether h is a mean over the completion's tokens, not their sum.
      imitation: the weight of the better completion's surprise a token, which is added.
      has_margin: whether the loss has `PairOptions.margin`.
    """

    loss: Callable[[jax.Array, jax.Array, PairOptions], jax.Array]
    has_reference: bool = True
    per_token: bool = False
    imitation: float = 0.0
    has_margin: bool = False


def logistic(better: jax.Array, worse: jax.Array, options: PairOptions) -> jax.Array:
    """Returns -log sigmoid(beta (h_w - h_l) - margin): DPO (2305.18290), SimPO (2405.14734)."""
    return jax.nn.softplus(options.margin - options.beta * (better - worse))


def robust(better: jax.Array, worse: jax.Array, options: PairOptions) -> jax.Array:
    """Returns DPO's loss without the bias of labels of which a share is flipped (2403.00409)."""
    rate, difference = options.flip_rate, options.beta * (better - worse)
    as_told, flipped = jax.nn.softplus(-difference), jax.nn.softplus(difference)
    return ((1 - rate) * as_told - rate * flipped) / (1 - 2 * rate)


def squared(better: jax.Array, worse: jax.Array, options: PairOptions) -> jax.Array:
    """Returns (h_w - h_l - 1 / (2 beta))^2: IPO (2310.12036, 17)."""
    return jnp.square(better - worse - 1 / (2 * options.beta))


def hinge(better: jax.Array, worse: jax.Array, options: PairOptions) -> jax.Array:
    """Returns max(0, 1 - beta (h_w - h_l)): SLiC's calibration loss (2305.10425)."""
    return jax.nn.relu(1 - options.beta * (better - worse))


def anchored_up(better: jax.Array, worse: jax.Array, options: PairOptions) -> jax.Array:
    """Returns APO-zero (2408.06266, 7), for completions that are better than the policy's own."""
    return jax.nn.sigmoid(-options.beta * better) + jax.nn.sigmoid(options.beta * worse)


def anchored_down(better: jax.Array, worse: jax.Array, options: PairOptions) -> jax.Array:
    """Returns APO-down (2408.06266, 8), for completions that are worse than the policy's own."""
    return jax.nn.sigmoid(options.beta * better) + jax.nn.sigmoid(options.beta * (worse - better))


def odds_ratio(better: jax.Array, worse: jax.Array, options: PairOptions) -> jax.Array:
    """Returns -beta log sigmoid(log odds_w - log odds_l): ORPO (2403.07691, 7)."""
    return options.beta * jax.nn.softplus(log_odds(worse) - log_odds(better))


def log_odds(log_probability: jax.Array) -> jax.Array:
    """Returns log(p / (1 - p)); the p of a surprise below LEAST_SURPRISE is that of this one."""
    log_p = jnp.minimum(log_probability, -LEAST_SURPRISE)
    is_near_1 = log_p > -0.6931
    # Each form is accurate where it is used, and finite where it is not.
    near_1 = jnp.log(-jnp.expm1(jnp.where(is_near_1, log_p, -1.0)))
    far = jnp.log1p(-jnp.exp(jnp.where(is_near_1, -1.0, log_p)))
    return log_p - jnp.where(is_near_1, near_1, far)


PAIR_METHODS: dict[str, PairMethod] = {
    "dpo": PairMethod(logistic, has_margin=True),
    "robust": PairMethod(robust),
    # Its authors divide by the length, see 2310.12036's experiments and TRL.
    "ipo": PairMethod(squared, per_token=True),
    "hinge": PairMethod(hinge),
    "apo_zero": PairMethod(anchored_up),
    "apo_down": PairMethod(anchored_down),
    "cpo": PairMethod(logistic, has_reference=False, imitation=1.0, has_margin=True),
    "simpo": PairMethod(logistic, has_reference=False, per_token=True, has_margin=True),
    "orpo": PairMethod(odds_ratio, has_reference=False, per_token=True, imitation=1.0),
}


def pair_losses(
    kind: PairKind,
    first: ArrayLike,
    second: ArrayLike,
    options: PairOptions,
    preference: ArrayLike = 1.0,
) -> jax.Array:
    """Returns the expected losses of pairs, [pairs] float32.

    Args:
      kind: the method, a name of PAIR_METHODS.
      first: [pairs], h of the first completions.
      second: likewise.
      options: the settings.
      preference: [pairs] or a scalar, the probability that the first is the better. With 1 minus
        the share of wrong labels for it, "dpo" is conservative DPO. A margin is asked of whichever
        is the better.
    """
    loss = PAIR_METHODS[kind].loss
    h, other = jnp.asarray(first), jnp.asarray(second)
    p = jnp.asarray(preference)
    return p * loss(h, other, options) + (1 - p) * loss(other, h, options)


def labelled_losses(
    log_ratio: ArrayLike,
    is_desirable: ArrayLike,
    baseline: ArrayLike,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> jax.Array:
    """Returns the losses of completions that are good or bad by themselves: KTO (2402.01306, 8).

    Args:
      log_ratio: [completions], h relative to the reference.
      is_desirable: [completions], 1 of a good one and 0 of a bad one.
      baseline: scalar, the estimate of KL(policy || reference) that h is compared with; no gradient
        is taken of it.
      beta: scale of h.
      desirable_weight: lambda_D.
      undesirable_weight: lambda_U.
    """
    good, baseline = jnp.asarray(is_desirable), jax.lax.stop_gradient(baseline)
    value = beta * (jnp.asarray(log_ratio) - baseline)
    lost, gained = jax.nn.sigmoid(-value), jax.nn.sigmoid(value)
    return desirable_weight * good * lost + undesirable_weight * (1 - good) * gained


def divergence_baseline(log_ratios: ArrayLike, weights: ArrayLike) -> jax.Array:
    """Returns KTO's estimate of KL(policy || reference): a weighted mean of h, at least 0.

    Args:
      log_ratios: [completions], h of completions of other prompts (2402.01306, 4.1).
      weights: [completions], 0 where there is none.
    """
    weight = jnp.asarray(weights)
    mean = jnp.sum(jnp.asarray(log_ratios) * weight) / jnp.maximum(jnp.sum(weight), 1.0)
    return jax.lax.stop_gradient(jnp.maximum(mean, 0.0))
