"""Adafactor (1804.04235), applied to every matrix of a stack separately."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgen.domains import (
    NonNegativeFloat,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
    ProperFraction,
    check_domains,
)
from jaxgen.sharding.rules import mesh_is_set
from jaxgen.training.optimizers.matrices import Arrays, Sides, by_name

EPSILON_SQUARE, EPSILON_SCALE = 1e-30, 1e-3
"""The paper's regularisation constants, algorithms 4 and 5."""


@dataclasses.dataclass(frozen=True)
class Adafactor:
    """Adafactor keeps second moments as rows and columns, and scales updates by a matrix's size.

    The paper sees a matrix; here it is one layer's, one expert's, with heads and their width as one
    side. optax.adafactor would factor the two largest axes of the stack instead, and take sizes
    over all layers together.

    Attributes:
      decay_exponent: the second moment's decay at step t is 1 - t^-decay_exponent,
      max_decay: but at most this (0.99 in LaMDA and GLaM).
      beta1: momentum; None keeps none.
      factored: whether second moments are kept as rows and columns (PaLM: False).
      multiply_by_parameter_scale: whether updates are relative to each parameter's size.
      clipping_threshold: bound on the root mean square of each parameter's update.
      min_dim_factored: matrices with a side below this are not factored.
      weight_decay: share of a matrix taken away at each step, or the square of the learning rate
        (PaLM, 2204.02311, 5).
    """

    decay_exponent: PositiveFloat = 0.8
    max_decay: PositiveFraction = 1.0
    beta1: ProperFraction | None = None
    factored: bool = True
    multiply_by_parameter_scale: bool = True
    clipping_threshold: PositiveFloat | None = 1.0
    min_dim_factored: PositiveInt = 128
    weight_decay: NonNegativeFloat | Literal["learning_rate_squared"] | None = None

    def __post_init__(self):
        check_domains(self, "adafactor")

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Returns the transformation of gradients into updates."""
        return by_name(lambda sides: _adafactor(self, schedule, sides))


class _State(NamedTuple):
    """The state is the steps done, second moments ("row" and "column", or "whole") and momenta."""

    count: jax.Array
    moments: dict[str, dict[str, jax.Array]]
    momentum: Arrays


def _adafactor(
    settings: Adafactor, schedule: optax.Schedule, sides: dict[str, Sides]
) -> optax.GradientTransformation:
    def is_factored(side: Sides) -> bool:
        return settings.factored and side.is_matrix and min(side.sides) >= settings.min_dim_factored

    def init(params: Any) -> _State:
        moments = {}
        for name, array in params.items():
            zeros = sides[name].fold(jnp.zeros_like(array))
            moments[name] = {"whole": jnp.zeros_like(array)}
            if is_factored(sides[name]):
                moments[name] = {"row": jnp.sum(zeros, -1), "column": jnp.sum(zeros, -2)}
        momentum = {} if settings.beta1 is None else jax.tree.map(jnp.zeros_like, params)
        count = jnp.zeros((), jnp.int32, out_sharding=jax.P() if mesh_is_set() else None)
        return _State(count, moments, momentum)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        step = state.count.astype(jnp.float32) + 1
        decay = jnp.minimum(1 - step**-settings.decay_exponent, settings.max_decay)
        rate = jnp.asarray(schedule(state.count))
        changes, moments, momentum = {}, {}, {}
        for name, gradient in updates.items():
            of_one = tuple(range(len(sides[name].stacked), gradient.ndim))
            moments[name] = _decayed(state.moments[name], gradient, decay, sides[name])
            change = gradient * _inverse_root(moments[name], gradient, sides[name])
            if settings.clipping_threshold is not None:
                change /= jnp.maximum(1.0, _size(change, of_one) / settings.clipping_threshold)
            change *= rate
            if settings.multiply_by_parameter_scale:
                change *= jnp.maximum(_size(params[name], of_one), EPSILON_SCALE)
            if settings.beta1 is not None:
                change = settings.beta1 * state.momentum[name] + (1 - settings.beta1) * change
                momentum[name] = change
            if settings.weight_decay is not None and sides[name].is_matrix:
                is_share = not isinstance(settings.weight_decay, str)
                change += (settings.weight_decay if is_share else rate**2) * params[name]
            changes[name] = -change
        return changes, _State(state.count + 1, moments, momentum)

    return optax.GradientTransformation(init, update)


def _decayed(moments: dict, gradient: jax.Array, decay: jax.Array, side: Sides) -> dict:
    square = jnp.square(gradient) + EPSILON_SQUARE
    if "row" in moments:
        square = side.fold(square)
        new = {"row": jnp.mean(square, -1), "column": jnp.mean(square, -2)}
    else:
        new = {"whole": square}
    return {name: decay * moments[name] + (1 - decay) * new[name] for name in new}


def _inverse_root(moments: dict, gradient: jax.Array, side: Sides) -> jax.Array:
    """Returns one over the root of the second moment, in the gradient's shape and layout."""
    if "whole" in moments:
        return jax.lax.rsqrt(moments["whole"])
    row, column = moments["row"], moments["column"]
    row = jax.lax.rsqrt(row / jnp.mean(row, -1, keepdims=True))
    folded = row[..., :, None] * jax.lax.rsqrt(column)[..., None, :]
    if not mesh_is_set():
        return folded.reshape(gradient.shape)
    layout = jax.typeof(gradient).sharding.spec
    return jnp.reshape(folded, gradient.shape, out_sharding=layout)


def _size(array: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Returns the root mean square of each parameter of a stack."""
    return jnp.sqrt(jnp.mean(jnp.square(array), axis=axes, keepdims=True))
