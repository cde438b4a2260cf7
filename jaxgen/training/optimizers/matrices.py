"""Optimizers read off the logical axes which axes of a parameter make a matrix.

Layers and experts are stacked, and heads with their width are one side of a matrix: the query
[layers, embed, heads, head_dim] is, for every layer, a matrix from embed to heads * head_dim. So
are axes without a name before one with a name: a patch's rows, columns and channels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.parameters import is_variable, named_parameters, path_name

STACKED = ("layers", "experts")
Arrays = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Sides:
    """A parameter's shape as an optimizer sees it.

    Attributes:
      stacked: leading axes over which parameters of one shape are stacked.
      sides: the others, heads and their width as one; two of them are a matrix.
      is_table: whether rows are looked up one by one (embeddings, learned positions and biases).
    """

    stacked: tuple[int, ...]
    sides: tuple[int, ...]
    is_table: bool

    @property
    def is_matrix(self) -> bool:
        """Returns whether there are two sides."""
        return len(self.sides) == 2

    def fold(self, array: jax.Array) -> jax.Array:
        """Returns the array as [*stacked, *sides]."""
        return array.reshape(*self.stacked, *self.sides)


def sides_of(parameter: nnx.Variable) -> Sides:
    """Returns the sides of a parameter, read off its logical axes, never off its name."""
    axes, shape = parameter.logical_axes, parameter.shape
    first = next((i for i, axis in enumerate(axes) if axis not in STACKED), len(axes))
    inner, sizes = list(axes[first:]), list(shape[first:])
    if "head_dim" in inner and inner.index("head_dim") > 0:
        at = inner.index("head_dim")
        sizes[at - 1 : at + 1] = [math.prod(sizes[at - 1 : at + 1])]
    unnamed = next((i for i, axis in enumerate(inner) if axis is not None), len(inner))
    if 1 < unnamed < len(inner):
        sizes[:unnamed] = [math.prod(sizes[:unnamed])]
    is_table = inner[:1] in (["vocab"], [None])
    return Sides(tuple(shape[:first]), tuple(sizes), is_table)


def is_decayed(parameter: nnx.Variable) -> bool:
    """Returns whether weight decay applies: to matrices and embeddings, not scales and biases."""
    return sides_of(parameter).is_matrix


def decayed(model: Any, left_out: tuple[str, ...] = (), vectors: bool = False) -> Any:
    """Returns for every array of a model whether weight decay applies.

    Args:
      model: as a pytree.
      left_out: names of parameters, or of modules of them, to which it does not apply.
      vectors: whether it applies to scales and biases too.

    Raises:
      ConfigError: the model has nothing of a name.
    """
    names = [name for name, _ in named_parameters(model)]
    for one in left_out:
        if not any(f"{name}.".startswith(f"{one}.") for name in names):
            raise ConfigError(
                f"{one!r} of adamw.undecayed is no parameter of the model; its names are those of "
                f"`jaxgen models show`, such as {names[0]!r}, or their beginning."
            )

    def of_one(path: Any, parameter: nnx.Variable) -> Any:
        name = f"{path_name(path)}."
        applies = vectors or is_decayed(parameter)
        applies = applies and not any(name.startswith(f"{one}.") for one in left_out)
        return jax.tree.map(lambda _: applies, parameter)

    return jax.tree_util.tree_map_with_path(of_one, model, is_leaf=is_variable)


def by_name(make: Any) -> optax.GradientTransformation:
    """Turns a transformation of dictionaries of arrays into one of models.

    Args:
      make: {name: Sides} to a `GradientTransformation` of {name: array}.
    """

    def parts(model: Any) -> tuple[optax.GradientTransformation, Arrays]:
        named = dict(named_parameters(model))
        made = make({name: sides_of(parameter) for name, parameter in named.items()})
        return made, {name: parameter[...] for name, parameter in named.items()}

    def init(params: Any) -> Any:
        made, arrays = parts(params)
        return made.init(arrays)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        made, arrays = parts(params)
        leaves, tree = jax.tree.flatten(updates)
        changes: Any
        changes, state = made.update(dict(zip(arrays, leaves, strict=True)), state, arrays)
        return jax.tree.unflatten(tree, [changes[name] for name in arrays]), state

    return optax.GradientTransformation(init, update)


def elementwise(
    change: Callable[[nnx.Variable, jax.Array, jax.Array], jax.Array],
) -> optax.GradientTransformation:
    """Returns a transformation without state: (parameter, its update, its value) to an update."""

    def update(updates: Any, params: Any) -> Any:
        def of_one(parameter: nnx.Variable, its_update: nnx.Variable) -> Any:
            return jax.tree.map(lambda u, x: change(parameter, u, x), its_update, parameter)

        return jax.tree.map(of_one, params, updates, is_leaf=is_variable)

    return optax.stateless(update)
