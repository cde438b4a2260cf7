"""Optimizers as frozen settings that build optax transformations."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import optax
from flax import nnx


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
class Adafactor:
    """Adafactor (1804.04235): second moments kept as rows and columns of a matrix.

    Attributes:
      decay_exponent: the second moment's decay at step t is 1 - t^-decay_exponent.
      beta1: momentum; None keeps none.
      multiply_by_parameter_scale: whether updates are relative to each parameter's size.
      clipping_threshold: bound on the root mean square of each parameter's update.
      min_dim_factored: matrices with a side below this are not factored.
      weight_decay: share of a matrix taken away at each step.
    """

    decay_exponent: float = 0.8
    beta1: float | None = None
    multiply_by_parameter_scale: bool = True
    clipping_threshold: float | None = 1.0
    min_dim_factored: int = 128
    weight_decay: float | None = None

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """The transformation of gradients into updates."""
        return optax.adafactor(
            schedule,
            decay_rate=self.decay_exponent,
            momentum=self.beta1,
            multiply_by_parameter_scale=self.multiply_by_parameter_scale,
            clipping_threshold=self.clipping_threshold,
            min_dim_size_to_factor=self.min_dim_factored,
            weight_decay_rate=self.weight_decay,
            weight_decay_mask=decayed,
        )


Optimizer = AdamW | Adafactor


def decayed(model: Any) -> Any:
    """Of every parameter whether weight decay applies: matrices and embeddings, by logical axes.

    Norm scales and biases, those of attention heads included, lack either the "embed" axis or a
    second one.
    """

    def is_decayed(parameter: nnx.Param) -> Any:
        axes = [axis for axis in parameter.logical_axes if axis != "layers"]
        return jax.tree.map(lambda _: "embed" in axes and len(axes) > 1, parameter)

    return jax.tree.map(is_decayed, model, is_leaf=lambda x: isinstance(x, nnx.Param))
