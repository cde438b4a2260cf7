"""Low-rank adapters of matrices, merged where they are used (LoRA, 2106.09685; DoRA, 2402.09353).

An `AdaptedParameter` stands in a model's tree where the parameter that it adapts stood, and is read
like one: `adapted[...]` is W + scale * A B. As `parameters.gather` reads a matrix inside the block
that is scanned and computed again, so there is a merged matrix for as long as a layer computes, and
no merged copy of a model. All of it is made on the shards that devices keep, before they gather.

What it costs: the backward pass of a product finds the gradient of the whole matrix, of which the
adapters' are products, and drops it after the layer. LoRA as it was published saves that third of
the products, and keeps an activation of width `rank` for each of them instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.adapter_dropout import is_dropping, multiply_dropped
from jaxgen.models.parameters import Frozen, is_variable, make_parameter, path_name
from jaxgen.models.parametrization import STACKED, Axes
from jaxgen.ops.initializers import normal, zeros
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.rules import einsum, mesh_is_set, reshard

RANK = "rank"


class AdaptedParameter(nnx.Module):
    """A frozen matrix and what is added to it.

    Attributes:
      base: [stacked, inputs, outputs], of any number of axes each, such as "layers" and "experts",
        "embed", "heads" and "head_dim".
      a: [stacked, inputs, rank].
      b: [stacked, rank, outputs].
      magnitude: [stacked, outputs] of DoRA: what the merged columns' norms are; None: they are
        what they come to.
      scale: on the product of `a` and `b`.
      dropout: the share of the adapters' input that training passes leave out.
    """

    def __init__(
        self,
        base: nnx.Variable,
        a: nnx.Variable,
        b: nnx.Variable,
        magnitude: nnx.Variable | None,
        scale: float,
        dropout: float = 0.0,
    ):
        self.base = base
        self.a = a
        self.b = b
        self.magnitude = magnitude
        self.scale = scale
        self.dropout = dropout

    def __getitem__(self, key: Any) -> jax.Array:
        """Returns the merged matrix in float32, laid out as the base is; `key` is `...`."""
        assert key is Ellipsis
        merged = self._sum()
        if self.magnitude is None:
            return merged
        stacked, inputs, _ = self._axes(merged.ndim)
        return merged * jnp.expand_dims(self._factors(merged), range(stacked, stacked + inputs))

    def column_factors(self) -> jax.Array:
        """Returns what DoRA multiplies the columns of W + scale * A B by, [stacked, outputs]."""
        return self._factors(self._sum())

    @property
    def output_axes(self) -> Axes:
        """Those of the matrix's outputs."""
        return self.logical_axes[len(self.logical_axes) - self._axes(0)[2] :]

    @property
    def drops(self) -> bool:
        """Whether this is a pass in which a part of the adapters' input is left out."""
        return self.dropout > 0 and is_dropping()

    def multiply(self, equation: str, x: jax.Array, shape: Any, out: Any, dtype: Any) -> jax.Array:
        """Returns the product with x in such a pass; see `adapter_dropout.multiply_dropped`."""
        return multiply_dropped(self, equation, x, shape, out, dtype)

    def _sum(self) -> jax.Array:
        """Returns W + scale * A B in float32, laid out as the base is."""
        base, a, b = self.base[...], self.a[...], self.b[...]
        # Where a block computes, the axis of layers has been scanned away.
        stacked, inputs, _ = self._axes(base.ndim)
        letters, first = "abcdefgh"[: base.ndim], stacked + inputs
        of_a, of_b = f"z{letters[:first]}r", f"z{letters[:stacked]}r{letters[first:]}"
        layout = jax.typeof(base).sharding.spec if mesh_is_set() else jax.P(*[None] * base.ndim)
        a = reshard(a, jax.P(*layout[:first], None))
        b = reshard(b, jax.P(*layout[:stacked], None, *layout[first:]))
        # As large as the matrix, it is not to be kept where remat="dots" keeps products: that is of
        # those without a batch.
        product = einsum(f"{of_a},{of_b}->z{letters}", a[None], b[None], out=jax.P(None, *layout))
        return base.astype(jnp.float32) + self.scale * product[0]

    def _factors(self, merged: jax.Array) -> jax.Array:
        assert self.magnitude is not None
        stacked, inputs, _ = self._axes(merged.ndim)
        # The norm's gradient is left out, as the paper proposes (4.3).
        norms = jax.lax.stop_gradient(column_norms(merged, stacked, inputs))
        magnitude = self.magnitude[...]
        if mesh_is_set():
            magnitude = reshard(magnitude, jax.typeof(norms).sharding.spec)
        return magnitude / norms

    @property
    def logical_axes(self) -> Axes:
        """Those of the matrix."""
        return self.base.logical_axes

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the matrix."""
        return self.base.shape

    def holding(self, value: jax.Array) -> AdaptedParameter:
        """Returns one with another base matrix, and of DoRA with its columns' norms."""
        stacked, inputs, _ = self._axes(value.ndim)
        magnitude = self.magnitude
        if magnitude is not None:
            norms = column_norms(value.astype(jnp.float32), stacked, inputs)
            if mesh_is_set():
                norms = reshard(norms, jax.typeof(magnitude[...]).sharding.spec)
            magnitude = magnitude.replace(norms)
        return self.with_parts(self.base.replace(value), self.a, self.b, magnitude)

    def with_parts(self, base: Any, a: Any, b: Any, magnitude: Any) -> AdaptedParameter:
        """Returns one of other parameters."""
        return AdaptedParameter(base, a, b, magnitude, self.scale, self.dropout)

    def _axes(self, present: int) -> tuple[int, int, int]:
        stacked, inputs, outputs = split_axes(self.logical_axes)
        scanned_away = len(self.logical_axes) - present
        return stacked - scanned_away, inputs, outputs


def column_norms(matrix: jax.Array, stacked: int, inputs: int) -> jax.Array:
    """Returns the norms [stacked, outputs] over a matrix's inputs."""
    return jnp.sqrt(jnp.sum(jnp.square(matrix), axis=range(stacked, stacked + inputs)))


def split_axes(axes: Axes) -> tuple[int, int, int]:
    """Returns how many axes are stacked, of a matrix's inputs and of its outputs.

    (layers, embed, heads, head_dim) goes from embed to heads, and (layers, heads, head_dim, embed)
    from heads to embed. A vector has no outputs.
    """
    stacked = next((i for i, axis in enumerate(axes) if axis not in STACKED), len(axes))
    inner = axes[stacked:]
    inputs = 2 if inner[1:2] == ("head_dim",) else 1
    return stacked, min(inputs, len(inner)), max(len(inner) - inputs, 0)


def is_adaptable(parameter: nnx.Variable) -> bool:
    """Returns whether a parameter is a matrix both of whose sides have a name.

    A router's choices, a table of relative positions and a convolution's window have none.
    """
    axes = parameter.logical_axes
    stacked, inputs, outputs = split_axes(axes)
    sides = axes[stacked : stacked + inputs], axes[stacked + inputs :]
    return outputs > 0 and all(any(axis is not None for axis in side) for side in sides)


def is_readable(node: Any) -> bool:
    """Returns whether a node of a model is read as one parameter, adapted or not."""
    return is_variable(node) or isinstance(node, AdaptedParameter)


def readable_parameters(model: Any) -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, what is read) of a model's parameters, adapted or not."""
    for path, node in jax.tree_util.tree_leaves_with_path(model, is_leaf=is_readable):
        yield path_name(path), node


def map_readable(function: Callable[[str, Any], Any], model: Any) -> Any:
    """Returns a model whose every parameter, adapted or not, is `function(dotted name, it)`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, node: function(path_name(path), node), model, is_leaf=is_readable
    )


def adapted(
    model: Any,
    rngs: nnx.Rngs,
    layout: Layout,
    chosen: frozenset[str],
    rank: int,
    scale: float,
    dora: bool,
    dropout: float,
) -> Any:
    """Returns a model of which only the adapters of some matrices are trained.

    Args:
      model: all of whose parameters are frozen.
      rngs: of the adapters.
      layout: of the model.
      chosen: dotted names of the matrices.
      rank: of the adapters.
      scale: on their product.
      dora: whether the norms of columns are trained by themselves.
      dropout: the share of the adapters' input that training passes leave out.
    """

    def adapt(name: str, parameter: nnx.Variable) -> Any:
        if name not in chosen:
            return _frozen(parameter)
        axes, shape = parameter.logical_axes, parameter.shape
        stacked, inputs, _ = split_axes(axes)
        first = stacked + inputs
        # The variance of Kaiming's uniform distribution as PEFT has it.
        start = normal((3 * math.prod(shape[stacked:first])) ** -0.5)
        a = make_parameter(rngs, (*shape[:first], rank), (*axes[:first], RANK), start)
        of_b, axes_b = (*shape[:stacked], rank, *shape[first:]), axes[first:]
        b = make_parameter(rngs, of_b, (*axes[:stacked], RANK, *axes_b), zeros)
        magnitude = None
        if dora:
            of_columns = (*shape[:stacked], *shape[first:])
            magnitude = make_parameter(rngs, of_columns, (*axes[:stacked], *axes_b), zeros)
        one = AdaptedParameter(_frozen(parameter), a, b, magnitude, scale, dropout)
        return one.holding(parameter[...])

    with using(layout):
        return map_readable(adapt, model)


def drops_inputs(model: Any) -> bool:
    """Returns whether a training pass of a model differs from use by what its adapters drop."""
    nodes = (node for _, node in readable_parameters(model))
    return any(isinstance(node, AdaptedParameter) and node.dropout > 0 for node in nodes)


def _frozen(parameter: nnx.Variable) -> Frozen:
    return Frozen(parameter.get_value(), **parameter.get_metadata())


def merged(model: Any) -> Any:
    """Returns the model with its adapters merged, all of it to be trained."""

    def merge(_: str, node: Any) -> nnx.Param:
        return nnx.Param(node[...], logical_axes=node.logical_axes)

    return map_readable(merge, model)


def without_adapters(model: Any) -> Any:
    """Returns the frozen model that the adapters were added to."""
    return map_readable(
        lambda _, node: node.base if isinstance(node, AdaptedParameter) else node, model
    )


def adopt(model: Any, parent: Any) -> Any:
    """Returns a model whose frozen matrices are a parent's, its adapters as they are.

    Args:
      model: with adapters.
      parent: of the same parameters, without adapters or with others, which are merged.

    Raises:
      ValueError: parameters differ; it names the first.
    """
    ours, theirs = dict(readable_parameters(model)), dict(readable_parameters(parent))
    for name in sorted({*ours, *theirs}):
        shapes = [one[name].shape if name in one else None for one in (theirs, ours)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"parameters differ, such as {name} of shape {shapes[0]} there and {shapes[1]} here"
            )

    def take(name: str, node: Any) -> Any:
        value = theirs[name][...]
        return node.holding(value) if isinstance(node, AdaptedParameter) else node.replace(value)

    return map_readable(take, model)
