"""An optimizer whose state is kept in 16 or 8 bits instead of 32.

Rounding to the nearest would stop a running mean: with beta2 = 0.999 a step moves it by less than
half of what bfloat16 tells apart. So values are rounded up or down at random, with the chances that
make their expectation exact (1502.02551), from bits that depend on the step alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.parametrization import Multipliers
from jaxgen.sharding.rules import mesh_is_set
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.optimizers.base import Optimizer, PerParameterOptimizer
from jaxgen.training.optimizers.int8_blocks import decode, encode, fits_int8


@dataclasses.dataclass(frozen=True)
class NarrowState:
    """Any optimizer, its float32 moments kept in fewer bits; updates are computed in float32.

    Attributes:
      optimizer: whose state it is.
      dtype: "bfloat16", or "int8" with a scale for each block, see `int8_blocks`; there, moments
        whose last axis is shorter than a block stay float32.
    """

    optimizer: Optimizer = AdamW()
    dtype: Literal["bfloat16", "int8"] = "bfloat16"

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Returns the transformation of gradients into updates."""
        return _narrowed(self.optimizer.build(schedule), self.dtype)

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
        return _narrowed(self.optimizer.build_per_parameter(schedule, multipliers), self.dtype)


class _State(NamedTuple):
    """The number of updates, and the inner state with narrow leaves for float32 arrays.

    `scales` are those of its int8 leaves, in their order.
    """

    count: Any
    inner: Any
    scales: tuple[Any, ...]


def _narrowed(inner: optax.GradientTransformation, dtype: str) -> optax.GradientTransformation:
    def narrowed(count: Any, state: Any, key: jax.Array | None = None) -> _State:
        leaves, tree = jax.tree.flatten(state)
        narrow, scales = [], []
        for index, leaf in enumerate(leaves):
            own_key = None if key is None else jax.random.fold_in(key, index)
            if dtype == "bfloat16":
                leaf = _narrow(leaf, own_key)
            elif fits_int8(leaf):
                leaf, scale = encode(leaf, own_key)
                scales.append(scale)
            narrow.append(leaf)
        return _State(count, jax.tree.unflatten(tree, narrow), tuple(scales))

    def init(params: Any) -> _State:
        count = jnp.zeros((), jnp.int32, out_sharding=jax.P() if mesh_is_set() else None)
        return narrowed(count, inner.init(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        scales = iter(state.scales)

        def widen(x: jax.Array) -> jax.Array:
            if dtype == "bfloat16":
                return x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x
            return decode(x, next(scales)) if x.dtype == jnp.int8 else x

        wide = jax.tree.map(widen, state.inner)
        updates, new = inner.update(updates, wide, params)
        key = jax.random.fold_in(jax.random.key(0), state.count)
        return updates, narrowed(state.count + 1, new, key)

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
