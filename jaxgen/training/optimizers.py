"""Optimizers as frozen settings that build optax transformations."""

from __future__ import annotations

import dataclasses

import optax

from jaxgen.training.adafactor import Adafactor
from jaxgen.training.matrices import decayed
from jaxgen.training.muon import Muon


@dataclasses.dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (1711.05101) on matrices and embeddings only."""

    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """The transformation of gradients into updates."""
        return optax.adamw(
            schedule,
            b1=self.beta1,
            b2=self.beta2,
            eps=self.epsilon,
            weight_decay=self.weight_decay,
            mask=decayed if self.weight_decay else None,
        )


@dataclasses.dataclass(frozen=True)
class Lion:
    """The sign of a momentum (2302.06675); a tenth of AdamW's rate and ten times its decay suit."""

    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 1.0

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """The transformation of gradients into updates."""
        return optax.lion(
            schedule,
            b1=self.beta1,
            b2=self.beta2,
            weight_decay=self.weight_decay,
            mask=decayed if self.weight_decay else None,
        )


Optimizer = AdamW | Adafactor | Lion | Muon
