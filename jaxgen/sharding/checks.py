"""Refuses arrays that a mesh cannot split, before anything is compiled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from jaxgen.errors import ShardingError
from jaxgen.sharding.rules import PADDED, MeshAxes, Rules


def axis_names(axes: MeshAxes) -> tuple[str, ...]:
    """Returns mesh axes as a tuple, whatever form a rule gives them in."""
    if axes is None:
        return ()
    return (axes,) if isinstance(axes, str) else tuple(axes)


def check_rules(rules: Rules, mesh_sizes: Mapping[str, int]) -> None:
    """Raises ShardingError if a rule names an axis that the mesh lacks or it cannot have."""
    if axis_names(rules.layers) not in ((), ("stage",)):
        raise ShardingError(
            f'rules.layers={rules.layers!r}: layers are split over pipeline stages, "stage", or '
            "over nothing, None."
        )
    for logical_axis, axes in vars(rules).items():
        for axis in axis_names(axes):
            if axis not in mesh_sizes:
                raise ShardingError(
                    f"rules.{logical_axis} names the mesh axis {axis!r}; "
                    f"the mesh has: {', '.join(mesh_sizes)}."
                )
    _check_activations(rules)


def _check_activations(rules: Rules) -> None:
    batch = set(axis_names(rules.batch))
    for wide in ("vocab", "heads", "kv_heads", "mlp"):
        if shared := batch & set(axis_names(rules.mesh_axes(wide))):
            raise ShardingError(
                f"activations [batch, length, {wide}] would be split twice over the mesh axis "
                f"{min(shared)!r}: by rules.batch and by rules.{wide}. Leave it to one of them."
            )


def check_all_axes_split(
    arrays: Iterable[tuple[str | None, ...]], rules: Rules, mesh_sizes: Mapping[str, int]
) -> None:
    """Raises ShardingError if a mesh axis splits nothing, so that its devices repeat one another.

    Args:
      arrays: the logical axes of each parameter.
      rules: the table.
      mesh_sizes: the size of every mesh axis.
    """
    logical = {"batch", "length", *(axis for axes in arrays for axis in axes)}
    split = {name for axis in logical for name in axis_names(rules.mesh_axes(axis))}
    for axis, size in mesh_sizes.items():
        if size > 1 and axis not in split:
            raise ShardingError(
                f"mesh.{axis}={size} splits nothing of this model under these rules, so its "
                f"{size} parts would do the same work; set mesh.{axis}=1, or name {axis!r} in the "
                "rule of an axis that the model has."
            )


def check_layout(
    arrays: Iterable[tuple[str, tuple[int, ...], tuple[str | None, ...]]],
    rules: Rules,
    mesh_sizes: Mapping[str, int],
) -> None:
    """Checks that the mesh divides every dimension that a rule splits, unless it may be padded.

    Args:
      arrays: (name, shape, logical axes) of each array.
      rules: the table.
      mesh_sizes: the size of every mesh axis.

    Raises:
      ShardingError: naming the array, its shape, the mesh axes and the sizes that would fit.
    """
    check_rules(rules, mesh_sizes)
    for name, shape, logical_axes in arrays:
        used: dict[str, str] = {}
        for size, logical_axis in zip(shape, logical_axes, strict=True):
            axes = axis_names(rules.mesh_axes(logical_axis))
            parts = math.prod(mesh_sizes[axis] for axis in axes)
            if size % parts and logical_axis not in PADDED:
                joined = " x ".join(f"{axis}={mesh_sizes[axis]}" for axis in axes)
                fitting = [d for d in range(1, parts + 1) if size % d == 0]
                raise ShardingError(
                    f"{name} of shape {shape} cannot be split: its axis {logical_axis!r} has size "
                    f"{size}, which {joined} ({parts} parts) does not divide. Sizes up to {parts} "
                    f"that fit: {fitting}; or change {size}, or set rules.{logical_axis}=None "
                    "to keep that axis whole."
                )
            for axis in axes:
                if axis in used and mesh_sizes[axis] > 1:
                    raise ShardingError(
                        f"{name} of shape {shape} would be split twice over the mesh axis "
                        f"{axis!r}: by rules.{used[axis]} and by rules.{logical_axis}. "
                        "Set one of them to None."
                    )
                used[axis] = str(logical_axis)
