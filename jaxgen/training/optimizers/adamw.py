"""Adam with decoupled weight decay (1711.05101)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import optax
from flax import nnx

from jaxgen.domains import NonNegativeFloat, PositiveFloat, ProperFraction, check_domains
from jaxgen.models.parametrization import Multipliers
from jaxgen.training.optimizers.matrices import decayed, elementwise, is_decayed


@dataclasses.dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay, on matrices and embeddings only."""

    beta1: ProperFraction = 0.9
    beta2: ProperFraction = 0.95
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.1

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
            mask=decayed if self.weight_decay else None,
        )

    def build_per_parameter(
        self, schedule: optax.Schedule, multipliers: Callable[[nnx.Variable], Multipliers]
    ) -> optax.GradientTransformation:
        """Returns AdamW whose rate, decay and epsilon are multiplied for each parameter."""

        def decay(parameter: nnx.Variable) -> float:
            factor = multipliers(parameter).weight_decay
            return self.weight_decay * factor if is_decayed(parameter) else 0.0

        return optax.chain(
            # Adam's update does not change with the gradient's size but through epsilon: k times
            # the epsilon is the same as a gradient of 1 / k.
            elementwise(lambda parameter, update, _: update / multipliers(parameter).epsilon),
            optax.scale_by_adam(b1=self.beta1, b2=self.beta2, eps=self.epsilon),
            elementwise(lambda parameter, update, value: update + decay(parameter) * value),
            elementwise(lambda parameter, update, _: update * multipliers(parameter).learning_rate),
            optax.scale_by_learning_rate(schedule),
        )
