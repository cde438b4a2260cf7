"""The optimizer of a model: as its settings say, or as the model's parametrization changes them."""

from __future__ import annotations

from typing import Any

import optax
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.base import ModelConfig
from jaxgen.models.parametrization import Multipliers
from jaxgen.training.optimizers.base import Optimizer, PerParameterOptimizer


def build_optimizer(
    optimizer: Optimizer, schedule: optax.Schedule, model: ModelConfig
) -> optax.GradientTransformation:
    """Returns the transformation of a model's gradients into updates.

    Args:
      optimizer: its settings, those of the base where the model has a parametrization.
      schedule: of the learning rate, likewise.
      model: whose parameters are updated.

    Raises:
      ConfigError: for a parametrization with an optimizer that cannot follow it.
    """
    # A transformer's; other models need know nothing of it.
    settings: Any = model
    parametrization = getattr(settings, "parametrization", None)
    if parametrization is None:
        return optimizer.build(schedule)
    if not isinstance(optimizer, PerParameterOptimizer):
        raise ConfigError(
            f"model.parametrization (kind={parametrization.kind!r}) multiplies the settings of the "
            f"optimizer for each parameter, and train.optimizer={type(optimizer).__name__} has no "
            "method build_per_parameter; use AdamW, or set model.parametrization=None."
        )

    def multipliers(parameter: nnx.Variable) -> Multipliers:
        axes = parameter.logical_axes
        return parametrization.multipliers(axes, settings.embed_dim, settings.num_layers)

    return optimizer.build_per_parameter(schedule, multipliers)
