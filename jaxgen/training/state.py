"""The state that training carries from step to step."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.base import ModelConfig
from jaxgen.models.parameters import Frozen, is_variable, path_name
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.rules import mesh_is_set


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """A step's result and the next one's argument.

    Attributes:
      step: scalar int32, steps done.
      model: the parameters, as `ModelConfig.build` makes them.
      optimizer_state: optax's, each moment in its parameter's layout; none of frozen parameters.
      ema: exponential moving averages of the trained parameters, where `train.ema_decay` is set.
    """

    step: Any
    model: Any  # A pytree to optax, which knows no modules.
    optimizer_state: Any
    ema: Any = None

    @property
    def averaged_model(self) -> Any:
        """The model with its averages in place of the trained parameters.

        Raises:
          ConfigError: if there are none.
        """
        if self.ema is None:
            raise ConfigError(
                "the run keeps no averages of its parameters; train it with train.ema_decay, such "
                "as 0.999, or use the parameters themselves."
            )
        return with_trained(self.model, self.ema)


def flatten(state: Any) -> dict[str, Any]:
    """Returns a pytree as a dictionary from dotted names to its arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(state, is_leaf=is_variable)
    return {path_name(path): x.get_value() if is_variable(x) else x for path, x in leaves}


def trained(model: Any) -> Any:
    """Returns a model's tree without its frozen parameters, which are None there."""
    return jax.tree.map(
        lambda node: None if isinstance(node, Frozen) else node, model, is_leaf=is_variable
    )


def with_trained(model: Any, parameters: Any) -> Any:
    """Returns a model with other values of what `trained` gives; frozen ones stay."""

    def choose(new: Any, old: Any) -> Any:
        return old if new is None else new

    return jax.tree.map(
        choose, parameters, model, is_leaf=lambda node: node is None or is_variable(node)
    )


def initial_state(
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    layout: Layout,
    seed: int | jax.Array,
) -> TrainState:
    """Returns the state before the first step; under `jax.jit` and a mesh it is made in place.

    `seed` is a number, or a key where it is an argument of the jitted function.
    """
    return state_with(config.build(nnx.Rngs(params=seed), layout), optimizer)


def state_with(
    model: Any, optimizer: optax.GradientTransformation | None, has_ema: bool = False
) -> TrainState:
    """Returns the state before the first step, of parameters that are there; call under a mesh.

    Without an optimizer it has no state of one, as for a model that is only read.
    """
    step = jnp.zeros((), jnp.int32, out_sharding=jax.P() if mesh_is_set() else None)
    parameters = trained(model)
    ema = jax.tree.map(jnp.copy, parameters) if has_ema else None
    optimizer_state = None if optimizer is None else jax.jit(optimizer.init)(parameters)
    return TrainState(step, model, optimizer_state, ema)
