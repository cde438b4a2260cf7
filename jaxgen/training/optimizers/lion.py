"""Lion (2302.06675): the sign of a momentum."""

from __future__ import annotations

import dataclasses

import optax

from jaxgen.domains import NonNegativeFloat, ProperFraction, check_domains
from jaxgen.training.optimizers.matrices import decayed


@dataclasses.dataclass(frozen=True)
class Lion:
    """A tenth of AdamW's learning rate and ten times its weight decay suit it."""

    beta1: ProperFraction = 0.9
    beta2: ProperFraction = 0.99
    weight_decay: NonNegativeFloat = 1.0

    def __post_init__(self):
        check_domains(self, "lion")

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Returns the transformation of gradients into updates."""
        return optax.lion(
            schedule,
            b1=self.beta1,
            b2=self.beta2,
            weight_decay=self.weight_decay,
            mask=decayed if self.weight_decay else None,
        )
