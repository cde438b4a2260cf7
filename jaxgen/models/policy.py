"""A policy: a language model with a frozen reference, a head of scalars, and perhaps a critic."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.base import language_model
from jaxgen.models.parameters import Frozen, gather, is_variable, make_parameter
from jaxgen.models.policy_config import CRITIC, PolicyConfig
from jaxgen.ops.initializers import normal, zeros
from jaxgen.sharding.layout import Layout, spec, under_layout, using
from jaxgen.sharding.rules import einsum


class ScalarHead(nnx.Module):
    """A number of each token's hidden state."""

    def __init__(self, embed: int, rngs: nnx.Rngs):
        self.weight = make_parameter(rngs, (embed,), ("embed",), normal((embed + 1) ** -0.5))
        self.bias = make_parameter(rngs, (), (), zeros)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Maps [rows, length, embed] to [rows, length] float32."""
        weight = gather(self.weight, jnp.float32)
        out = spec("batch", "length")
        numbers = einsum("btd,d->bt", hidden.astype(jnp.float32), weight, out=out)
        return numbers + gather(self.bias, jnp.float32)


class Values(NamedTuple):
    """What a policy expects of each token.

    Attributes:
      values: [rows, length] float32.
      auxiliary: a critic's own losses, such as those of its routers, or None.
    """

    values: Any
    auxiliary: Any


class Policy(nnx.Module):
    """A language model and what is asked of it beside text; called, it is the language model."""

    def __init__(self, config: PolicyConfig, rngs: nnx.Rngs, layout: Layout = Layout()):
        self.config = config
        self.layout = layout
        self.model = config.model.build(rngs, layout)
        self.reference = _frozen_copy(self.model) if config.copies_reference else None
        with using(layout):
            self.head = (
                ScalarHead(self.language_model.config.embed_dim, rngs) if config.head else None
            )
        self.critic = None if config.critic is None else config.critic.build(rngs, layout)

    @property
    def language_model(self) -> Any:
        """What writes."""
        return language_model(self.model)

    @property
    def reference_model(self) -> Any:
        """The frozen language model that the policy is kept near to.

        Raises:
          ConfigError: if there is none.
        """
        if not self.config.reference:
            raise ConfigError("the objective needs a reference; set policy.reference = True.")
        return self.model.without_adapters() if self.reference is None else self.reference

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Returns the language model's output; see `Transformer`."""
        return self.language_model(*arguments, **named)

    @under_layout
    def scalars(self, output: Any) -> jax.Array:
        """Returns the head's number of each token, [rows, length] float32.

        Args:
          output: of the language model.

        Raises:
          ConfigError: if there is no head.
        """
        if self.head is None:
            raise ConfigError("the objective needs a head of scalars; set policy.head = True.")
        return self.head(output.hidden)

    def values(self, rows: Any, output: Any, key: jax.Array | None = None) -> Values:
        """Returns the value at each token by the critic, or by the head.

        Args:
          rows: the batch that was read.
          output: of the language model for it.
          key: of a training pass.

        Raises:
          ConfigError: if there is neither.
        """
        if self.critic is None:
            return Values(self.scalars(output), None)
        output = self.critic(rows, key=key)
        return Values(self.critic.scalars(output), output.auxiliary)

    def adopt(self, parent: Any) -> Policy:
        """Returns the policy with a parent's parameters, and the reference with them too.

        Args:
          parent: a language model, or a policy, whose head is taken where both have one.
        """
        from jaxgen.models.adopting import adopted

        inner = parent.model if isinstance(parent, Policy) else parent
        policy = jax.tree.map(lambda leaf: leaf, self)
        policy.model = adopted(policy.model, inner)
        if policy.reference is not None:
            policy.reference = _frozen_copy(policy.model)
        if isinstance(parent, Policy) and parent.head is not None and policy.head is not None:
            policy.head = parent.head
        return policy

    def after_update(self, metrics: dict[str, Any]) -> Policy:
        """Returns the policy after the language model's own `after_update`, and the critic's."""
        policy = jax.tree.map(lambda leaf: leaf, self)
        if hasattr(self.model, "after_update"):
            policy.model = policy.model.after_update(metrics)
        of_critic = {
            name.removeprefix(CRITIC): mean
            for name, mean in metrics.items()
            if name.startswith(CRITIC)
        }
        # It has figures only where the objective asks for values.
        if of_critic and hasattr(self.critic, "after_update"):
            policy.critic = policy.critic.after_update(of_critic)
        return policy


def _frozen_copy(model: Any) -> Any:
    """Returns a model of the same values in arrays of its own, all frozen."""

    def copied(parameter: nnx.Variable) -> Frozen:
        return Frozen(jnp.copy(parameter.get_value()), **parameter.get_metadata())

    return jax.tree.map(copied, model, is_leaf=is_variable)
