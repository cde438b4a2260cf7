"""Adam with decoupled weight decay (1711.05101)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import nnx

from jaxgen.domains import NonNegativeFloat, PositiveFloat, ProperFraction, check_domains
from jaxgen.models.parameters import is_variable
from jaxgen.models.parametrization import Multipliers
from jaxgen.training.optimizers.matrices import decayed, elementwise


@dataclasses.dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay, on matrices and embeddings if nothing else is said.

    Attributes:
      beta1: of the mean of gradients.
      beta2: of the mean of their squares.
      epsilon: added to its root.
      weight_decay: times the learning rate.
      undecayed: names of parameters without decay, or of modules of them: "embedding" (OLMo 2).
      decay_vectors: whether scales and biases are decayed too (OLMo 2).
    """

    beta1: ProperFraction = 0.9
    beta2: ProperFraction = 0.95
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.1
    undecayed: tuple[str, ...] = ()
    decay_vectors: bool = False

    def __post_init__(self):
        check_domains(self, "adamw")

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Returns the transformation of gradients into updates."""
        return optax.adamw(
            schedule,
            b1=self.beta1,
            b2=self.beta2,
            eps=self.epsilon,
            weight_decay=self.weight_decay,
            mask=self._decayed if self.weight_decay else None,
        )

    def build_per_parameter(
        self, schedule: optax.Schedule, multipliers: Callable[[nnx.Variable], Multipliers]
    ) -> optax.GradientTransformation:
        """Returns AdamW whose rate, decay and epsilon are multiplied for each parameter."""

        def decay(updates: Any, params: Any) -> Any:
            def of_one(parameter: nnx.Variable, update: nnx.Variable, applies: Any) -> Any:
                rate = self.weight_decay * multipliers(parameter).weight_decay
                return jax.tree.map(
                    lambda u, x, is_on: u + rate * x if is_on else u, update, parameter, applies
                )

            flags = self._decayed(params)
            return jax.tree.map(of_one, params, updates, flags, is_leaf=is_variable)

        return optax.chain(
            # Adam's update does not change with the gradient's size but through epsilon: k times
            # the epsilon is the same as a gradient of 1 / k.
            elementwise(lambda parameter, update, _: update / multipliers(parameter).epsilon),
            optax.scale_by_adam(b1=self.beta1, b2=self.beta2, eps=self.epsilon),
            optax.stateless(decay),
            elementwise(lambda parameter, update, _: update * multipliers(parameter).learning_rate),
            optax.scale_by_learning_rate(schedule),
        )

    def _decayed(self, model: Any) -> Any:
        return decayed(model, self.undecayed, self.decay_vectors)
