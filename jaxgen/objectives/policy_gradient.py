"""Policy gradients on sampled completions: REINFORCE, PPO, GRPO and its kin, in one objective.

What has no gradient (rewards, advantages, log-probabilities when they were sampled) comes with the
batch, as `posttraining.rollouts` makes it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.domains import NonNegativeFloat, PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.group_batch import GroupBatch, parted
from jaxgen.models.base import language_model
from jaxgen.models.policy_config import CRITIC
from jaxgen.objectives.base import Loss, Sum
from jaxgen.objectives.group_sums import by_task
from jaxgen.objectives.log_probabilities import token_log_probabilities
from jaxgen.objectives.token_sums import with_auxiliary
from jaxgen.ops.advantages import Estimator, kl_estimates

Surrogate = Literal["clip", "cispo", "reinforce"]
Aggregation = Literal["token", "sequence", "constant"]


@dataclasses.dataclass(frozen=True)
class PolicyGradient:
    """Raises the probability of tokens by their advantages.

    The ratio of a token is its probability now over that when it was sampled. With the advantage A
    the loss of a token is by `surrogate`:

    - "clip": -min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A) (PPO, 1707.06347);
    - "cispo": -min(ratio, 1 + clip_high) A log p, whose ratio has no gradient (2506.13585);
    - "reinforce": -A log p.

    Attributes:
      surrogate: see above.
      ratio: of each "token", or of the whole "sequence": the geometric mean over its tokens (GSPO,
        2507.18071).
      clip_low: how far a ratio may fall.
      clip_high: how far it may grow; a larger one than `clip_low` is DAPO's clip-higher
        (2503.14476).
      dual_clip: where the advantage is below 0 the ratio counts up to this (1912.09729); None: as
        far as it goes.
      aggregation: of token losses: the mean over all "token"s (DAPO); over "sequence"s of the mean
        over each one's tokens (GRPO); or over sequences of the sum, divided by the constant
        `constant_length` (Dr. GRPO, 2503.20783).
      constant_length: of the aggregation "constant".
      kl_weight: of the KL to the reference, an estimate added to each token's loss.
      kl_estimator: see `ops.advantages.kl_estimates`.
      entropy_weight: of the entropy of each token's distribution, which is kept large.
      value_weight: of half the squared error of the values, in policies with a head or a critic.
      value_clip: values count at most this far from those when the completion was sampled, where
        that makes the error larger; None: they are free.
      importance_cap: where the sampler's probabilities differ from a training pass's, tokens are
        weighed by the quotient of the two, cut at this (truncated importance sampling); None: they
        are not weighed.
    """

    surrogate: Surrogate = "clip"
    ratio: Literal["token", "sequence"] = "token"
    clip_low: NonNegativeFloat = 0.2
    clip_high: NonNegativeFloat = 0.2
    dual_clip: PositiveFloat | None = None
    aggregation: Aggregation = "token"
    constant_length: PositiveInt | None = None
    kl_weight: NonNegativeFloat = 0.0
    kl_estimator: Estimator = "k3"
    entropy_weight: NonNegativeFloat = 0.0
    value_weight: NonNegativeFloat = 0.0
    value_clip: PositiveFloat | None = None
    importance_cap: PositiveFloat | None = None

    loss_unit: ClassVar[str] = "advantage/token"

    def __post_init__(self):
        check_domains(self, "policy_gradient")
        if (self.aggregation == "constant") != (self.constant_length is not None):
            raise ConfigError(
                "policy_gradient.constant_length is what aggregation='constant' divides by: set "
                f"both or none (aggregation={self.aggregation!r}, "
                f"constant_length={self.constant_length})."
            )

    def __call__(self, model: Any, batch: GroupBatch, key: jax.Array | None = None) -> Loss:
        """Returns the loss of a policy, or of a bare language model where that is all it takes.

        Raises:
          ConfigError: if the batch lacks what the settings ask for.
        """
        if batch.advantages is None:
            raise ConfigError(
                "policy_gradient needs completions with advantages: let the run's data be "
                "@rollouts(), with rollouts.student_share = 1."
            )
        rows = batch.rows()
        output = language_model(model)(rows, key=key)
        figures = token_log_probabilities(model, rows.targets, output, batch.drawn_by)
        group = batch.shape[1]
        log_probability, entropy = (parted(x, group) for x in figures)
        values, of_critic = None, None
        if self.value_weight:
            if batch.returns is None:
                raise ConfigError(
                    "policy_gradient.value_weight needs returns, which rollouts.advantage = "
                    "@generalised_advantage() makes; set it to 0 for advantages without values."
                )
            found, of_critic = model.values(rows, output, key)
            values = parted(found, group)
        loss = self.of_figures(batch, log_probability, entropy, values)
        tokens, names = jnp.sum(rows.loss_weights), batch.task_names
        loss = with_auxiliary(loss, output.auxiliary, tokens, names)
        return with_auxiliary(loss, of_critic, tokens, names, CRITIC)

    def of_figures(
        self, batch: GroupBatch, log_probability: Any, entropy: Any, values: Any = None
    ) -> Loss:
        """Returns the loss of what a model says of a batch's targets, all [batch, group, length].

        Args:
          batch: of completions.
          log_probability: of the targets.
          entropy: of each target's distribution.
          values: of each state.
        """
        mask = jnp.asarray(batch.completion_weights)
        parts = self._tokens(batch, mask, log_probability)
        loss, sums = parts.loss, dict(parts.sums)
        if self.kl_weight:
            if batch.reference is None:
                raise ConfigError(
                    "policy_gradient.kl_weight needs a reference: set policy.reference = True."
                )
            kl = kl_estimates(log_probability - batch.reference, self.kl_estimator, jnp.exp)
            loss = loss + self.kl_weight * kl
        loss = loss - self.entropy_weight * entropy
        if values is not None:
            error = self._value_error(batch, values)
            loss = loss + self.value_weight * error
            sums["value_loss"] = error
        sums["entropy"] = entropy
        total, weight = self._aggregated(loss, mask)
        tokens = jnp.sum(mask)
        metrics = {name: Sum(jnp.sum(mask * x), tokens) for name, x in sums.items()}
        metrics |= {"loss": Sum(total, weight)} | completion_metrics(batch, log_probability)
        return Loss(total, weight, metrics)

    def _tokens(self, batch: GroupBatch, mask: jax.Array, log_probability: jax.Array) -> _Tokens:
        """Returns the loss of each token by the surrogate, and what is reported of the ratios."""
        advantages = jnp.asarray(batch.advantages)
        before = batch.log_probabilities
        before = jax.lax.stop_gradient(log_probability) if before is None else before
        log_ratio = jnp.where(mask > 0, log_probability - before, 0.0)
        if self.ratio == "sequence":
            lengths = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1.0)
            mean = jnp.sum(mask * log_ratio, axis=-1, keepdims=True) / lengths
            # Its value is the sequence's, on every token.
            log_ratio = jnp.broadcast_to(mean, log_ratio.shape)
        ratio = jnp.exp(log_ratio)
        low, high = 1 - self.clip_low, 1 + self.clip_high
        is_clipped = ((advantages > 0) & (ratio > high)) | ((advantages < 0) & (ratio < low))
        if self.surrogate == "reinforce":
            loss = -advantages * log_probability
            is_clipped = jnp.zeros_like(is_clipped)
        elif self.surrogate == "cispo":
            weight = jax.lax.stop_gradient(jnp.minimum(ratio, high))
            loss = -weight * advantages * log_probability
            is_clipped = ratio > high
        else:
            counted = ratio
            if self.dual_clip is not None:
                counted = jnp.where(advantages < 0, jnp.minimum(ratio, self.dual_clip), ratio)
            loss = -jnp.minimum(counted * advantages, jnp.clip(ratio, low, high) * advantages)
        sums = {"ratio": ratio, "clipped": is_clipped.astype(jnp.float32)}
        if batch.sampled is not None:
            gap = jnp.where(mask > 0, jax.lax.stop_gradient(before) - batch.sampled, 0.0)
            sums["sampler_gap"] = jnp.abs(gap)
            if self.importance_cap is not None:
                loss = loss * jnp.minimum(jnp.exp(gap), self.importance_cap)
        return _Tokens(loss, sums)

    def _value_error(self, batch: GroupBatch, values: jax.Array) -> jax.Array:
        error = jnp.square(values - batch.returns)
        if self.value_clip is not None:
            before = jnp.asarray(batch.values)
            near = before + jnp.clip(values - before, -self.value_clip, self.value_clip)
            error = jnp.maximum(error, jnp.square(near - batch.returns))
        return error / 2

    def _aggregated(self, loss: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns a sum over the batch, and what it is divided by."""
        if self.aggregation == "token":
            return jnp.sum(mask * loss), jnp.sum(mask)
        lengths = jnp.sum(mask, axis=-1)
        divisor = lengths if self.constant_length is None else self.constant_length
        of_sequences = jnp.sum(mask * loss, axis=-1) / jnp.maximum(divisor, 1.0)
        return jnp.sum(of_sequences), jnp.sum(lengths > 0, dtype=jnp.float32)


class _Tokens(NamedTuple):
    """What the surrogate says of each token, [batch, group, length]."""

    loss: Any
    sums: dict[str, Any]


def completion_metrics(batch: GroupBatch, log_probability: jax.Array) -> dict[str, Sum]:
    """Returns what rows report of completions: rewards by task, lengths, distance to a reference.

    Args:
      batch: of sampled completions.
      log_probability: [batch, group, length], of the targets now.
    """
    mask, scores = jnp.asarray(batch.completion_weights), jnp.asarray(batch.scores)
    tokens = jnp.sum(mask, axis=-1)
    is_scored = jnp.isfinite(scores)
    there = is_scored.astype(jnp.float32)
    kept = jnp.where(is_scored, scores, 0.0)
    is_made = (jnp.asarray(batch.lengths) > 0).astype(jnp.float32)
    spread = jnp.max(jnp.where(is_scored, scores, -jnp.inf), axis=1) - jnp.min(
        jnp.where(is_scored, scores, jnp.inf), axis=1
    )
    groups = jnp.float32(scores.shape[0])
    metrics = {
        "reward": by_task(batch, jnp.sum(kept, axis=1), jnp.sum(there, axis=1)),
        "unscored": Sum(jnp.sum(is_made * (1 - there)), jnp.sum(is_made)),
        "completion_tokens": Sum(jnp.sum(tokens), jnp.sum(tokens > 0, dtype=jnp.float32)),
        "groups_with_signal": Sum(jnp.sum(spread > 0, dtype=jnp.float32), groups),
    }
    for number, name in enumerate(batch.part_names):
        part = jnp.where(jnp.isfinite(batch.score_parts), batch.score_parts, 0.0)[..., number]
        metrics[f"reward_part/{name}"] = Sum(jnp.sum(part), jnp.sum(there))
    if batch.ages is not None:
        metrics["rollout_age"] = Sum(jnp.sum(batch.ages).astype(jnp.float32), groups)
    if batch.reference is not None:
        # Of a whole completion, in nats, summed over its tokens: what rewards are weighed against.
        log_ratio = jnp.where(mask > 0, log_probability - batch.reference, 0.0)
        counted = (tokens > 0).astype(jnp.float32)
        metrics["kl"] = Sum(jnp.sum(log_ratio), jnp.sum(counted))
    return metrics
