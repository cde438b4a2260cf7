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


def state_dtype(optimizer: Optimizer) -> str:
    """Returns in what an optimizer keeps its moments: "float32", "bfloat16" or "int8"."""
    return optimizer.dtype if isinstance(optimizer, NarrowState) else "float32"


def with_state_dtype(optimizer: Optimizer, dtype: str) -> Optimizer:
    """Returns the optimizer that keeps its moments otherwise, and is the same in all else."""
    inner = optimizer.optimizer if isinstance(optimizer, NarrowState) else optimizer
    if dtype == "float32":
        return inner
    assert dtype in ("bfloat16", "int8"), dtype
    return NarrowState(inner, dtype)


def convert_state(state: Any, before: str, after: str, step: Any) -> Any:
    """Returns an optimizer's state as it is kept in another dtype.

    Args:
      state: the whole of it.
      before: its dtype, see `state_dtype`.
      after: the other dtype.
      step: the number of updates so far.
    """
    wide = state if before == "float32" else _widened(state, before)
    if after == "float32":
        return wide
    return _narrowed_state(step, wide, after, _key(step))


class _State(NamedTuple):
    """The number of updates, and the inner state with narrow leaves for float32 arrays.

    `scales` are those of its int8 leaves, in their order.
    """

    count: Any
    inner: Any
    scales: tuple[Any, ...]


def _narrowed(inner: optax.GradientTransformation, dtype: str) -> optax.GradientTransformation:
    def init(params: Any) -> _State:
        count = jnp.zeros((), jnp.int32, out_sharding=jax.P() if mesh_is_set() else None)
        return _narrowed_state(count, inner.init(params), dtype)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, new = inner.update(updates, _widened(state, dtype), params)
        return updates, _narrowed_state(state.count + 1, new, dtype, _key(state.count))

    return optax.GradientTransformation(init, update)


def _key(count: Any) -> jax.Array:
    return jax.random.fold_in(jax.random.key(0), count)


def _narrowed_state(count: Any, state: Any, dtype: str, key: jax.Array | None = None) -> _State:
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


def _widened(state: Any, dtype: str) -> Any:
    scales = iter(state.scales)

    def widen(x: jax.Array) -> jax.Array:
        if dtype == "bfloat16":
            return x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x
        return decode(x, next(scales)) if x.dtype == jnp.int8 else x

    return jax.tree.map(widen, state.inner)


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
