"""Parameters are made on one line: shape, logical axes and initial values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx

from jaxgen.models.parametrization import Axes, grows
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.initializers import Initializer, normal
from jaxgen.ops.linear import linear
from jaxgen.ops.quantised import MatmulDtype
from jaxgen.sharding import padding
from jaxgen.sharding.layout import current_layout, spec
from jaxgen.sharding.rules import mesh_is_set


def kernel(
    config: StackConfig, n_in: int, n_out: int, axes: Axes, into_stream: bool = False
) -> Initializer:
    """Returns the initializer of a matrix from `n_in` to `n_out`.

    Args:
      config: the model's.
      n_in: what it sums over.
      n_out: what it gives.
      axes: its logical axes.
      into_stream: whether what it gives joins the stream.
    """
    return normal(kernel_stddev(config, n_in, n_out, axes, into_stream))


def kernel_stddev(
    config: StackConfig, n_in: int, n_out: int, axes: Axes, into_stream: bool = False
) -> float:
    """Returns the standard deviation of `kernel`: the base's, times what growth makes of it."""
    start, grown, factor = config.initialization, config.parametrization, 1.0
    sizes: list[float] = [n_in, n_out]
    layers = config.num_layers
    if grown is not None:
        width = config.width_factor
        sizes = [n / width if grew else n for n, grew in zip(sizes, grows(axes), strict=True)]
        layers = grown.initial_layers(layers)
        factor = grown.initial_factor(axes, config.embed_dim)
    depth = 2 * layers if into_stream and start.residual_scaling else 1
    return start.kernel_stddev(*sizes) * depth**-0.5 * factor


def make_parameter(
    rngs: nnx.Rngs,
    shape: tuple[int, ...],
    logical_axes: tuple[str | None, ...],
    initializer: Initializer,
) -> nnx.Param:
    """Returns a float32 parameter, made in its layout, that remembers its logical axes."""
    out_sharding = None
    if mesh_is_set():
        out_sharding = padding.stored(shape, logical_axes, current_layout().rules)
    value = initializer(rngs.params(), shape, out_sharding)
    return nnx.Param(value, logical_axes=logical_axes)


class Frozen(nnx.Variable):
    """A variable that is stored, split and computed with, but neither trained nor decayed."""


def freeze(module: Any) -> Any:
    """Returns a module, such as a text encoder inside a model, with all its parameters frozen."""

    def frozen(parameter: nnx.Variable) -> Frozen:
        return Frozen(parameter.get_value(), **parameter.get_metadata())

    return jax.tree.map(frozen, module, is_leaf=is_variable)


def is_variable(node: Any) -> bool:
    """Returns whether a node of a pytree is a parameter, frozen or not."""
    return isinstance(node, nnx.Variable)


def gather(parameter: nnx.Variable, dtype: Any) -> jax.Array:
    """Returns a parameter ready to compute: cast, so that fewer bytes travel, then whole over fsdp.

    Rows of a vocabulary that the mesh does not divide are padded; see `sharding.padding`. A leading
    "layers" axis has been scanned away by the time a block computes.
    """
    axes = tuple(axis for axis in parameter.logical_axes if axis != "layers")
    return padding.gathered(parameter[...].astype(dtype), axes, current_layout().rules)


def multiply(
    equation: str,
    x: jax.Array,
    weight: Any,
    out: jax.sharding.PartitionSpec,
    dtype: MatmulDtype | None = None,
    shape: tuple[int, int] | None = None,
) -> jax.Array:
    """Returns `ops.linear.linear` of a stream and a parameter, which may be adapted.

    Args:
      equation: such as "btd,df->btf".
      x: [batch, length, in].
      weight: the parameter.
      out: how the product is split.
      dtype: see `linear`.
      shape: (in, out), which the parameter is reshaped to; None: that it has.
    """
    if not is_variable(weight) and weight.drops:
        return weight.multiply(equation, x, weight.shape if shape is None else shape, out, dtype)
    matrix = gather(weight, x.dtype)
    return linear(equation, x, matrix if shape is None else matrix.reshape(shape), out, dtype)


def project(x: jax.Array, weight: nnx.Variable, bias: nnx.Variable | None = None) -> jax.Array:
    """Maps [batch, length, in] by a matrix [in, out] to [batch, length, out], whole over out."""
    y = multiply("btd,de->bte", x, weight, spec("batch", "length", None))
    return y if bias is None else y + gather(bias, x.dtype)


def named_parameters(model: Any) -> Iterator[tuple[str, nnx.Variable]]:
    """Yields (dotted name, parameter) of every parameter of a model, abstract or real."""
    leaves = jax.tree_util.tree_leaves_with_path(model, is_leaf=is_variable)
    for path, parameter in leaves:
        yield path_name(path), parameter


def path_name(path: tuple[Any, ...]) -> str:
    """Returns the dotted name of a leaf, from its path in a pytree."""
    return ".".join(_key_name(key) for key in path)


def _key_name(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def number_of_parameters(model: Any) -> int:
    """Returns how many numbers the model holds."""
    return sum(math.prod(parameter.shape) for _, parameter in named_parameters(model))
