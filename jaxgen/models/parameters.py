"""How a parameter is made: its shape, its logical axes and its start on one line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.sharding.rules import Rules, mesh_is_set, reshard

Initializer = Callable[..., jax.Array]  # (key, shape, out_sharding) -> array


def normal(stddev: float) -> Initializer:
    """Draws from N(0, stddev^2)."""

    def initialize(key, shape, out_sharding):
        return stddev * jax.random.normal(key, shape, jnp.float32, out_sharding=out_sharding)

    return initialize


def ones(key, shape, out_sharding):
    """Every entry is 1."""
    del key
    return jnp.ones(shape, jnp.float32, out_sharding=out_sharding)


def zeros(key, shape, out_sharding):
    """Every entry is 0."""
    del key
    return jnp.zeros(shape, jnp.float32, out_sharding=out_sharding)


def make_parameter(
    rngs: nnx.Rngs,
    rules: Rules,
    shape: tuple[int, ...],
    logical_axes: tuple[str | None, ...],
    initializer: Initializer,
) -> nnx.Param:
    """A float32 parameter, born in its layout, that remembers its logical axes."""
    out_sharding = rules.stored(logical_axes) if mesh_is_set() else None
    value = initializer(rngs.params(), shape, out_sharding)
    return nnx.Param(value, logical_axes=logical_axes)


def gather(parameter: nnx.Param, rules: Rules, dtype: Any) -> jax.Array:
    """The parameter as it computes: cast first, so that fewer bytes travel, then whole over fsdp.

    A leading "layers" axis has been scanned away by the time a block computes.
    """
    axes = tuple(axis for axis in parameter.logical_axes if axis != "layers")
    return reshard(parameter[...].astype(dtype), rules.gathered(axes))


def named_parameters(model: Any) -> Iterator[tuple[str, nnx.Param]]:
    """(dotted name, parameter) of every parameter of a model, abstract or real."""
    leaves = jax.tree_util.tree_leaves_with_path(model, is_leaf=lambda x: isinstance(x, nnx.Param))
    for path, parameter in leaves:
        yield path_name(path), parameter


def path_name(path: tuple[Any, ...]) -> str:
    """The dotted name of a leaf, from its path in a pytree."""
    return ".".join(_key_name(key) for key in path)


def _key_name(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def number_of_parameters(model: Any) -> int:
    """How many numbers the model holds."""
    return sum(math.prod(parameter.shape) for _, parameter in named_parameters(model))
