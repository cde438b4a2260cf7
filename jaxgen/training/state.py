"""What training carries from step to step."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxgen.models.base import ModelConfig
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.rules import mesh_is_set


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """A step's result and the next one's argument.

    Attributes:
      step: scalar int32, steps done.
      model: the parameters, as `ModelConfig.build` makes them.
      optimizer_state: optax's, each moment in its parameter's layout.
    """

    step: Any
    model: Any  # A pytree to optax, which knows no modules.
    optimizer_state: Any


def initial_state(
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    layout: Layout,
    seed: int | jax.Array,
) -> TrainState:
    """The state before the first step; call it under `jax.jit` and a mesh to make it in place.

    `seed` is a number, or a key where it is an argument of the jitted function.
    """
    return state_with(config.build(nnx.Rngs(params=seed), layout), optimizer)


def state_with(model: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step, of parameters that are there; call under a mesh."""
    step = jnp.zeros((), jnp.int32, out_sharding=jax.P() if mesh_is_set() else None)
    return TrainState(step, model, jax.jit(optimizer.init)(model))
