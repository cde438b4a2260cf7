"""The optimiser of a model: as its settings say, or as its parametrisation changes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.config import TransformerConfig
from jaxgen.models.parametrization import Multipliers
from jaxgen.training.matrices import is_decayed
from jaxgen.training.optimizers import AdamW, Optimizer


def build_optimizer(
    optimizer: Optimizer, schedule: optax.Schedule, model: TransformerConfig
) -> optax.GradientTransformation:
    """The transformation of a model's gradients into updates.

    Args:
      optimizer: its settings, those of the base where the model has a parametrisation.
      schedule: of the learning rate, likewise.
      model: whose parameters are updated.

    Raises:
      ConfigError: a parametrisation with an optimiser that it has no rule for.
    """
    if model.parametrization is None:
        return optimizer.build(schedule)
    if not isinstance(optimizer, AdamW):
        raise ConfigError(
            f"model.parametrization (kind={model.parametrization.kind!r}) has rules for AdamW "
            f"alone, not for train.optimizer={type(optimizer).__name__}; use AdamW, or set "
            "model.parametrization=None."
        )
    return _adamw(optimizer, schedule, model)


def _adamw(
    settings: AdamW, schedule: optax.Schedule, config: TransformerConfig
) -> optax.GradientTransformation:
    """AdamW whose rate, decay and epsilon differ from parameter to parameter."""
    parametrization = config.parametrization
    assert parametrization is not None

    def of(parameter: nnx.Param) -> Multipliers:
        axes = parameter.logical_axes
        return parametrization.multipliers(axes, config.embed_dim, config.num_layers)

    def decay(parameter: nnx.Param) -> float:
        return settings.weight_decay * of(parameter).weight_decay if is_decayed(parameter) else 0.0

    return optax.chain(
        # Adam's update does not change with the gradient's size but through epsilon: k times the
        # epsilon is the same as a gradient of 1 / k.
        _elementwise(lambda parameter, update, _: update / of(parameter).epsilon),
        optax.scale_by_adam(b1=settings.beta1, b2=settings.beta2, eps=settings.epsilon),
        _elementwise(lambda parameter, update, value: update + decay(parameter) * value),
        _elementwise(lambda parameter, update, _: update * of(parameter).learning_rate),
        optax.scale_by_learning_rate(schedule),
    )


def _elementwise(
    change: Callable[[nnx.Param, jax.Array, jax.Array], jax.Array],
) -> optax.GradientTransformation:
    """Without state: (parameter, its update, its value) to the changed update."""

    def update(updates: Any, params: Any) -> Any:
        def of_one(parameter: nnx.Param, its_update: nnx.Param) -> Any:
            return jax.tree.map(lambda u, x: change(parameter, u, x), its_update, parameter)

        return jax.tree.map(
            of_one, params, updates, is_leaf=lambda leaf: isinstance(leaf, nnx.Param)
        )

    return optax.stateless(update)
