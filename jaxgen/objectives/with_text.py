"""Policy gradients mixed with next-token prediction: PPO-ptx (InstructGPT, 2203.02155, 3.5)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxgen.domains import NonNegativeFloat, check_domains
from jaxgen.errors import ConfigError
from jaxgen.group_batch import GroupsAndText
from jaxgen.objectives.base import Loss
from jaxgen.objectives.next_token import NextToken
from jaxgen.objectives.policy_gradient import PolicyGradient


@dataclasses.dataclass(frozen=True)
class WithText:
    """The loss on sampled completions, and the mean loss of text added to it.

    What is pre-trained on keeps the policy from losing what it knew. Where gradients are
    accumulated, the mean over text is taken over each microbatch. Metrics of the text are those of
    its objective, named "text_loss" and so on; figures of routers, which are balanced for both, are
    means over the tokens of both.

    Attributes:
      policy_gradient: of the completions.
      text: of the rows of text.
      weight: of the text's loss, in nats a token (InstructGPT's is 27.8).
    """

    policy_gradient: PolicyGradient = PolicyGradient()
    text: NextToken = NextToken()
    weight: NonNegativeFloat = 1.0

    loss_unit: ClassVar[str] = PolicyGradient.loss_unit

    def __post_init__(self):
        check_domains(self, "with_text_loss")

    def __call__(self, model: Any, batch: GroupsAndText, key: jax.Array | None = None) -> Loss:
        """Returns the loss of a policy on completions and text.

        Raises:
          ConfigError: if the batch has no text.
        """
        if not isinstance(batch, GroupsAndText):
            raise ConfigError(
                "with_text_loss needs completions and text: let the run's data be "
                "@rollouts_and_text()."
            )
        keys = (None, None) if key is None else tuple(jax.random.split(key))
        loss = self.policy_gradient(model, batch.groups, keys[0])
        text = self.text(model, batch.text, keys[1])
        mean = text.total / jnp.maximum(text.weight, 1.0)
        metrics = dict(loss.metrics)
        for name, one in text.metrics.items():
            if "router/" not in name:
                name = f"text_{name}"
            elif name in metrics:
                one = jax.tree.map(jnp.add, one, metrics[name])
            metrics[name] = one
        return Loss(loss.total + self.weight * loss.weight * mean, loss.weight, metrics)
