"""The configuration of a policy: a language model, its reference, and what reads rewards."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jaxgen.batch import Batch
from jaxgen.errors import ConfigError
from jaxgen.models.base import ModelConfig, ParameterCount, language_model

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.policy import Policy
    from jaxgen.sharding.layout import Layout


CRITIC = "critic_"
"""Before the names of a critic's own figures, such as those of its routers."""


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """A language model, perhaps with a frozen reference, a scalar head and a critic.

    Attributes:
      model: what writes; a transformer, or adapters on one.
      reference: whether there is a frozen copy of what the policy begins with, which it is kept
        near to. Where the model has frozen parameters and adapters, it is without them, and no copy
        is made.
      head: whether a number is read at every token, such as a reward or a value.
      critic: reads the values in place of the head, with parameters of its own: a policy with a
        head, such as the reward model that `run.initialize_parts` begins it with.
    """

    model: ModelConfig
    reference: bool = False
    head: bool = False
    critic: ModelConfig | None = None

    def __post_init__(self):
        inner = language_model(self.model)
        if not hasattr(inner, "vocab_size"):
            raise ConfigError(
                f"policy.model is a {type(self.model).__name__}, which writes no text; bind "
                "@model() or @lora()."
            )
        if self.critic is not None and not getattr(self.critic, "head", False):
            raise ConfigError(
                "policy.critic reads values, and has no head: bind it to @critic/policy() with "
                "critic/policy.head = True."
            )
        if self.critic is not None and self.head:
            raise ConfigError("policy.critic reads the values; leave out policy.head.")

    @property
    def language_model(self) -> Any:
        """The configuration of what writes."""
        return language_model(self.model)

    @property
    def vocab_size(self) -> int:
        """The language model's."""
        return self.language_model.vocab_size

    @property
    def max_length(self) -> int | None:
        """The most tokens of a row."""
        return self.language_model.max_length

    @property
    def copies_reference(self) -> bool:
        """Whether the reference has parameters of its own."""
        return self.reference and not hasattr(self.model, "base")

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Policy:
        """Returns the model; a reference begins as the policy does."""
        from jaxgen.models.policy import Policy

        return Policy(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the exact numbers of parameters, the reference's among them."""
        own = self.model.count()
        total, active = own.total, own.active
        if self.copies_reference:
            total, active = total + own.total, active + own.active
        if self.head:
            size = self.language_model.embed_dim + 1
            total, active = total + size, active + size
        if self.critic is not None:
            critic = self.critic.count()
            total, active = total + critic.total, active + critic.active
        return dataclasses.replace(own, total=total, active=active)

    def flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the FLOPs of training for a token, a forward pass of the reference with them."""
        own = self.model.flops(length, source_length)
        total = own + (own // 3 if self.reference else 0)
        return total + (0 if self.critic is None else self.critic.flops(length, source_length))

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> Batch:
        """Returns the shapes of the rows that the language model reads."""
        return self.language_model.batch_spec(
            batch_size=batch_size, length=length, source_length=source_length
        )
