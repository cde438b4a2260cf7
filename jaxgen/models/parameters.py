"""How a parameter is made: its shape, its logical axes and its start on one line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx

from jaxgen.models.config import TransformerConfig
from jaxgen.ops.initializers import Initializer, normal
from jaxgen.sharding.rules import Rules, mesh_is_set, reshard


def kernel(
    config: TransformerConfig, n_in: int, n_out: int, into_stream: bool = False
) -> Initializer:
    """How a matrix from `n_in` to `n_out` begins; `into_stream`: what it gives joins the stream."""
    start = config.initialization
    depth = 2 * config.num_layers if into_stream and start.residual_scaling else 1
    return normal(start.kernel_stddev(n_in, n_out) * depth**-0.5)


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
