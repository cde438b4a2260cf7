"""A vocabulary that the mesh does not divide is kept as it is, and padded where it computes.

Nothing that is kept knows of padding. A table [vocab, embed] whose rows the mesh axes of "vocab" do
not divide is stored split along its width over them, and so are its gradient and the state of its
optimiser; checkpoints, exports and counts see the vocabulary as it is. To compute, the devices
exchange columns for rows (an all-to-all), the last of which are zeros. Whoever makes logits of the
padded table leaves out what is beyond the vocabulary.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.rules import PADDED, Rules, num_parts, reshard

Shape = tuple[int, ...]
Axes = tuple[str | None, ...]


def stored(shape: Shape, logical_axes: Axes, rules: Rules) -> PartitionSpec:
    """Returns how a parameter is kept between steps."""
    layout = rules.stored(logical_axes)
    if not _is_uneven(shape, logical_axes, rules):
        return layout
    if _has_columns(shape, rules):
        return PartitionSpec(None, _axes_of_columns(rules))
    return PartitionSpec(None, *layout[1:])


def gathered(array: jax.Array, logical_axes: Axes, rules: Rules) -> jax.Array:
    """Returns a parameter as it computes: whole over `fsdp`, its rows padded where need be."""
    layout = rules.gathered(logical_axes)
    if not _is_uneven(array.shape, logical_axes, rules):
        return reshard(array, layout)
    columns = layout[0] if _has_columns(array.shape, rules) else None
    further = array.ndim - 1
    array = reshard(array, PartitionSpec(None, *[columns] * further))
    rows = -array.shape[0] % num_parts(axis_names(layout[0]))
    return reshard(jnp.pad(array, [(0, rows), *[(0, 0)] * further]), layout)


def without_padding(logits: jax.Array, size: int, layout: PartitionSpec) -> jax.Array:
    """Returns the first `size` logits; where there are more, laid out with the vocabulary whole."""
    return logits if logits.shape[-1] == size else reshard(logits, layout)[..., :size]


def _is_uneven(shape: Shape, logical_axes: Axes, rules: Rules) -> bool:
    first = logical_axes[0] if logical_axes else None
    return first in PADDED and shape[0] % num_parts(axis_names(rules.mesh_axes(first))) > 0


def _has_columns(shape: Shape, rules: Rules) -> bool:
    """Returns whether a parameter has a width, and the axes of rows and width divide it."""
    return len(shape) > 1 and shape[1] % num_parts(_axes_of_columns(rules)) == 0


def _axes_of_columns(rules: Rules) -> tuple[str, ...]:
    # Those of the rows first: whole over fsdp, the width is then split over them alone.
    width = axis_names(rules.embed)
    return *(axis for axis in axis_names(rules.vocab) if axis not in width), *width
