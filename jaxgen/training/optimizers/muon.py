"""Muon: momentum whose matrices are made orthogonal (Jordan et al. 2024; 2502.16982)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgen.domains import (
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ProperFraction,
    check_domains,
)
from jaxgen.sharding.rules import mesh_is_set
from jaxgen.training.optimizers.matrices import Sides, by_name

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, in the authors' code; singular values end between about 0.7 and 1.2."""


@dataclasses.dataclass(frozen=True)
class Muon:
    """Muon updates every layer's and expert's matrices, AdamW the rest.

    Updates have the root mean square `rms`, that of AdamW's, so that both share a learning rate and
    a weight decay (Moonlight, 2502.16982, 2.2).

    Attributes:
      beta: of the momentum, which is Nesterov's.
      steps: of the Newton-Schulz iteration.
      rms: of a matrix's update, before the learning rate.
      weight_decay: times the learning rate; on matrices and embeddings.
      adam_beta1: of AdamW, for tables, scales, biases and the unembedding.
      adam_beta2: likewise.
      adam_epsilon: likewise.
    """

    beta: ProperFraction = 0.95
    steps: PositiveInt = 5
    rms: PositiveFloat = 0.2
    weight_decay: NonNegativeFloat = 0.1
    adam_beta1: ProperFraction = 0.9
    adam_beta2: ProperFraction = 0.95
    adam_epsilon: PositiveFloat = 1e-8

    def __post_init__(self):
        check_domains(self, "muon")

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Returns the transformation of gradients into updates."""
        return by_name(functools.partial(self._make, schedule))

    def _make(
        self, schedule: optax.Schedule, sides: dict[str, Sides]
    ) -> optax.GradientTransformation:
        kinds = {
            name: "muon" if side.is_matrix and not side.is_table else "adam"
            for name, side in sides.items()
        }
        adam = optax.scale_by_adam(self.adam_beta1, self.adam_beta2, self.adam_epsilon)
        # Nothing is divided by a bias correction: the size of a momentum does not matter.
        muon = optax.chain(
            optax.trace(self.beta, nesterov=True),
            optax.stateless(functools.partial(self._orthogonal, sides)),
        )
        is_matrix = {name: side.is_matrix for name, side in sides.items()}
        return optax.chain(
            optax.partition({"muon": muon, "adam": adam}, kinds),
            optax.add_decayed_weights(self.weight_decay, is_matrix),
            optax.scale_by_learning_rate(schedule),
        )

    def _orthogonal(self, sides: dict[str, Sides], updates: Any, params: Any = None) -> Any:
        del params
        # What is left to AdamW stands here as optax.MaskedNode.
        return {
            name: self._orthogonalised(update, sides[name])
            if isinstance(update, jax.Array)
            else update
            for name, update in updates.items()
        }

    def _orthogonalised(self, update: jax.Array, side: Sides) -> jax.Array:
        def folded(update):
            stack = update.reshape(-1, *side.sides)
            return newton_schulz(stack, self.steps).reshape(update.shape)

        size = self.rms * max(side.sides) ** 0.5
        if not mesh_is_set():
            return size * folded(update)
        # The iteration contracts over both sides, so its layout is left to the compiler.
        layout = jax.typeof(update).sharding
        return size * jax.sharding.auto_axes(folded, out_sharding=layout)(update)


def newton_schulz(stack: jax.Array, steps: int) -> jax.Array:
    """Returns [count, rows, columns] matrices with their singular values brought near 1."""
    is_tall = stack.shape[1] > stack.shape[2]
    x = stack.swapaxes(1, 2) if is_tall else stack
    x = x / (jnp.linalg.norm(x, axis=(1, 2), keepdims=True) + 1e-8)
    first, second, third = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.swapaxes(1, 2)
        x = first * x + (second * gram + third * gram @ gram) @ x
    return x.swapaxes(1, 2) if is_tall else x
