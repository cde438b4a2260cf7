"""Objectives of reward models: comparisons by Bradley-Terry, and scored steps."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxgen.domains import NonNegativeFloat, check_domains
from jaxgen.errors import ConfigError
from jaxgen.group_batch import GroupBatch, parted
from jaxgen.models.base import language_model
from jaxgen.objectives.base import Loss
from jaxgen.objectives.group_sums import (
    at_last_token,
    check_group,
    is_there,
    loss_of_prompts,
    rules_of,
    sums_of_tokens,
)
from jaxgen.objectives.reward_losses import Ties, compare, step_losses


@dataclasses.dataclass(frozen=True)
class RewardModeling:
    """The loss of scoring the better of two completions higher, a mean over prompts.

    The reward is the head's number at the last token of a completion. Of K completions all pairs
    are compared, and their mean is the prompt's loss (InstructGPT, 2203.02155, 1).

    Its metrics, by task, are "loss"; "accuracy", the share of a prompt's pairs in the right order;
    "margin", between the better and the worse; "reward", the mean over completions.

    Attributes:
      margin: on the difference of the scores of a pair, by which rewards have to differ (Llama 2,
        2307.09288, 2).
      centring: weight of the square of the sum of two rewards, which keeps them about 0
        (2312.09244).
      ties: whether pairs of equal scores are left out, or each is the better with probability 1/2.
    """

    margin: NonNegativeFloat = 0.0
    centring: NonNegativeFloat = 0.0
    ties: Ties = "skip"

    loss_unit: ClassVar[str] = "nats/comparison"

    def __post_init__(self):
        check_domains(self, "reward_loss")
        if self.ties not in ("skip", "half"):
            raise ConfigError(f"reward_loss.ties={self.ties!r}: use 'skip' or 'half'.")

    def __call__(self, model: Any, batch: GroupBatch, key: jax.Array | None = None) -> Loss:
        """Returns the loss of a policy with a head.

        Raises:
          ConfigError: if it has none, or there is nothing to compare.
        """
        if batch.shape[1] < 2:
            check_group(
                batch, 2, "reward_loss", "give it @preference_pairs() or @ranked_completions()"
            )
        rewards, auxiliary = completion_rewards(model, batch, key)
        there = is_there(batch)
        found = compare(
            rewards, batch.scores, there, batch.preference, self.margin, self.centring, self.ties
        )
        count = jnp.sum(there, axis=1)
        mean = jnp.sum(jnp.where(there > 0, rewards, 0.0), axis=1) / jnp.maximum(count, 1.0)
        return loss_of_prompts(
            batch,
            {
                "loss": (found.loss, found.is_compared),
                "accuracy": (found.accuracy, found.decided),
                "margin": (found.margin, found.decided),
                "reward": (jax.lax.stop_gradient(mean), count),
            },
            auxiliary,
        )


@dataclasses.dataclass(frozen=True)
class ProcessRewards:
    """The cross-entropy of scored steps of completions (2305.20050), a mean over steps.

    The head's number at the last token of a step is the logit of its being right. The metrics, by
    task, are "loss" and "accuracy", the share of steps that are told right from wrong.
    """

    loss_unit: ClassVar[str] = "nats/step"

    def __call__(self, model: Any, batch: GroupBatch, key: jax.Array | None = None) -> Loss:
        """Returns the loss of a policy with a head; raises ConfigError if no step is scored."""
        if batch.step_scores is None:
            raise ConfigError(
                "step_reward_loss needs completions in steps: set comparisons.layout = "
                "@scored_steps()."
            )
        output, rules = _scored(model, batch, key), rules_of(model)
        scores = jnp.asarray(batch.step_scores)
        is_end = (scores >= 0).astype(jnp.float32)
        is_right = ((output.rewards > 0) == (scores >= 0.5)).astype(jnp.float32)

        def of_prompt(values: jax.Array) -> jax.Array:
            return jnp.sum(sums_of_tokens(values, is_end, rules), axis=1)

        steps = of_prompt(is_end)
        count = jnp.maximum(steps, 1.0)
        losses = of_prompt(step_losses(output.rewards, scores))
        return loss_of_prompts(
            batch,
            {"loss": (losses / count, steps), "accuracy": (of_prompt(is_right) / count, steps)},
            output.auxiliary,
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scored:
    """The head's numbers [batch, group, length], and the language model's own losses."""

    rewards: Any
    auxiliary: Any


def completion_rewards(
    model: Any, batch: GroupBatch, key: jax.Array | None = None
) -> tuple[jax.Array, Any]:
    """Returns the reward of each completion, [batch, group] float32, and the auxiliary losses."""
    output = _scored(model, batch, key)
    return at_last_token(output.rewards, batch, rules_of(model)), output.auxiliary


def token_rewards(model: Any, batch: GroupBatch) -> jax.Array:
    """Returns the head's number at every token, [batch, group, length] float32."""
    return _scored(model, batch, None).rewards


def _scored(model: Any, batch: GroupBatch, key: jax.Array | None) -> Scored:
    if not hasattr(model, "scalars"):
        raise ConfigError(
            f"a reward model is a policy with a head, and the model is a {type(model).__name__}: "
            "set run.model = @policy() and policy.head = True."
        )
    output = language_model(model)(batch.rows(), key=key)
    return Scored(parted(model.scalars(output), batch.shape[1]), output.auxiliary)
