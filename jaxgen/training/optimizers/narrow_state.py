"""An optimizer whose state is kept in bfloat16, half the bytes of float32.

Rounding to the nearest would stop a running mean: with beta2 = 0.999 a step moves it by less than
half of what bfloat16 tells apart. So values are rounded up or down at random, with the chances that
make their expectation exact (1502.02551), from bits that depend on the step alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.parametrization import Multipliers
from jaxgen.sharding.rules import mesh_is_set
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.optimizers.base import Optimizer, PerParameterOptimizer


@dataclasses.dataclass(frozen=True)
class NarrowState:
    """Any optimizer, its float32 moments kept in bfloat16; updates are computed in float32.

    Attributes:
      optimizer: whose state it is.
    """

    optimizer: Optimizer = AdamW()

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Returns the transformation of gradients into updates."""
        return _narrowed(self.optimizer.build(schedule))

    def build_per_parameter(
        self, schedule: optax.Schedule, multipliers: Callable[[nnx.Variable], Multipliers]
    ) -> optax.GradientTransformation:
        """Returns the transformation whose settings are multiplied for each parameter.

        Raises:
          ConfigError: if the optimizer cannot follow a parametrization.
        """
        if not isinstance(self.optimizer, PerParameterOptimizer):
            raise ConfigError(
                f"narrow_state.optimizer={type(self.optimizer).__name__} has no method "
                "build_per_parameter, which model.parametrization needs; use AdamW, or set "
                "model.parametrization=None."
            )
        return _narrowed(self.optimizer.build_per_parameter(schedule, multipliers))


class _State(NamedTuple):
    """The number of updates, and the inner state with bfloat16 for float32 arrays."""

    count: Any
    inner: Any


def _narrowed(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    def init(params: Any) -> _State:
        count = jnp.zeros((), jnp.int32, out_sharding=jax.P() if mesh_is_set() else None)
        return _State(count, jax.tree.map(_narrow, inner.init(params)))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        wide = jax.tree.map(_widen, state.inner)
        updates, new = inner.update(updates, wide, params)
        leaves, tree = jax.tree.flatten(new)
        key = jax.random.fold_in(jax.random.key(0), state.count)
        narrow = [_narrow(leaf, jax.random.fold_in(key, i)) for i, leaf in enumerate(leaves)]
        return updates, _State(state.count + 1, jax.tree.unflatten(tree, narrow))

    return optax.GradientTransformation(init, update)


def _narrow(x: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Returns a float32 array in bfloat16, rounded at random if there is a key; others as is."""
    if x.dtype != jnp.float32 or x.ndim == 0:
        return x
    if key is None:
        return x.astype(jnp.bfloat16)
    layout = jax.typeof(x).sharding.spec if mesh_is_set() else None
    # What is cut off, and as many random bits added before: a carry rounds up.
    added = jax.random.bits(key, x.shape, jnp.uint16, out_sharding=layout).astype(jnp.uint32)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + added
    cut = jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFF0000), jnp.float32)
    return jnp.where(jnp.isfinite(x), cut, x).astype(jnp.bfloat16)


def _widen(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x
