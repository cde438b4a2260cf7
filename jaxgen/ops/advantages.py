"""Advantages of sampled completions: numpy functions of rewards, values and masks.

A group is an axis, and what is masked is in no statistic.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Scale = Literal["group", "batch"]
Estimator = Literal["k1", "k2", "k3"]
EPSILON = 1e-4
"""Added to a standard deviation that divides, so that groups of nearly equal rewards stay small."""


def group_relative(
    rewards: np.ndarray, is_there: np.ndarray, scale: Scale | None = "group"
) -> np.ndarray:
    """Returns each reward less the mean of its group (GRPO, 2402.03300, 4.1.2).

    Args:
      rewards: [prompts, group].
      is_there: [prompts, group] bool; others have the advantage 0 and are in no mean.
      scale: what divides: the standard deviation of the "group" or of the whole "batch", unbiased;
        None: nothing (Dr. GRPO, 2503.20783).
    """
    kept = np.where(is_there, rewards, 0.0)
    count = is_there.sum(axis=1, keepdims=True)
    centred = np.where(is_there, kept - kept.sum(axis=1, keepdims=True) / np.maximum(count, 1), 0.0)
    if scale is None:
        return centred
    if scale == "group":
        variance = (centred**2).sum(axis=1, keepdims=True) / np.maximum(count - 1, 1)
    else:
        values = rewards[is_there]
        variance = np.asarray(values.var(ddof=1) if len(values) > 1 else 0.0)
    return centred / (np.sqrt(variance) + EPSILON)


def leave_one_out(rewards: np.ndarray, is_there: np.ndarray) -> np.ndarray:
    """Returns each reward less the mean of the others of its group (RLOO, 2402.14740).

    Args:
      rewards: [prompts, group].
      is_there: [prompts, group] bool; one that is alone in its group has the advantage 0.
    """
    count = is_there.sum(axis=1, keepdims=True)
    return group_relative(rewards, is_there, None) * count / np.maximum(count - 1, 1)


def token_rewards(scores: np.ndarray, mask: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Returns the reward of each token: the score at the completion's last, less penalties.

    Args:
      scores: [prompts, group], of whole completions.
      mask: [prompts, group, length] bool, the tokens of the completion.
      penalties: [prompts, group, length], such as a weight times the KL to a reference.
    """
    # The last token is the one after which none of the completion comes.
    later = np.cumsum(mask[..., ::-1], axis=-1)[..., ::-1]
    is_last = mask & (later == 1)
    return np.where(mask, -penalties, 0.0) + is_last * scores[..., None]


def generalised_advantages(
    rewards: np.ndarray, values: np.ndarray, mask: np.ndarray, gamma: float, lam: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns advantages and returns of each token (GAE, 1506.02438), 0 where masked.

    After a completion's last token there is no value, whether it ended or was cut.

    Args:
      rewards: [..., length], of each token.
      values: [..., length], of the state before each token.
      mask: [..., length] bool.
      gamma: discount of a token.
      lam: weight of longer looks ahead: 0 looks one token ahead, 1 to the end.
    """
    values = np.where(mask, values, 0.0).astype(np.float64)
    advantages = np.zeros_like(values)
    ahead, next_value = np.zeros(values.shape[:-1]), np.zeros(values.shape[:-1])
    for place in reversed(range(values.shape[-1])):
        is_in = mask[..., place]
        error = rewards[..., place] + gamma * next_value - values[..., place]
        ahead = np.where(is_in, error + gamma * lam * ahead, 0.0)
        next_value = np.where(is_in, values[..., place], 0.0)
        advantages[..., place] = ahead
    return advantages, np.where(mask, advantages + values, 0.0)


def whitened(values: np.ndarray, mask: np.ndarray, keeps_mean: bool = False) -> np.ndarray:
    """Returns values of mean 0 and (unbiased) variance 1 over what is not masked, 0 elsewhere.

    Args:
      values: of any shape.
      mask: bool, of the same.
      keeps_mean: whether the mean is added again.
    """
    kept = values[mask]
    if not len(kept):
        return np.zeros_like(values)
    mean = kept.mean()
    variance = kept.var(ddof=1) if len(kept) > 1 else 0.0
    scaled = (values - mean) / np.sqrt(variance + 1e-8) + (mean if keeps_mean else 0.0)
    return np.where(mask, scaled, 0.0)


def kl_estimates(log_ratio, estimator: Estimator, exp=np.exp):
    """Returns single-sample estimates of the KL divergence from a reference, of any shape.

    They are those of J. Schulman, "Approximating KL divergence" (2020), of tokens that the policy
    drew: "k1", unbiased, of either sign; "k2", biased, of small variance; "k3", unbiased and never
    below 0.

    Args:
      log_ratio: log-probability under the policy less that under the reference.
      estimator: which.
      exp: of the kind of array: `np.exp` or `jnp.exp`.
    """
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return log_ratio**2 / 2
    return exp(-log_ratio) - 1 + log_ratio
