"""A model takes over the parameters of another, of its own shape or of its inner model's."""

from __future__ import annotations

from typing import Any

import jax

from jaxgen.models.parameters import named_parameters


def adopted(model: Any, parent: Any) -> Any:
    """Returns a model with a parent's parameters.

    The structure stays the model's: settings such as dropout are its own. A model of other
    parameters than its parent's must have `adopt(parent)`.

    Args:
      model: with parameters of its own, abstract or real.
      parent: of the same kind of arrays.

    Raises:
      ValueError: if parameters differ and the model knows no way; it names the first.
    """
    ours, theirs = shapes_of(model), shapes_of(parent)
    if ours == theirs:
        return jax.tree.unflatten(jax.tree.structure(model), jax.tree.leaves(parent))
    adopt = getattr(model, "adopt", None)
    if adopt is not None:
        return adopt(parent)
    name = next(n for n in sorted({*ours, *theirs}) if ours.get(n) != theirs.get(n))
    raise ValueError(
        f"parameters differ, such as {name} of shape {theirs.get(name)} there and "
        f"{ours.get(name)} here"
    )


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every parameter by its name."""
    return {name: parameter.shape for name, parameter in named_parameters(model)}
