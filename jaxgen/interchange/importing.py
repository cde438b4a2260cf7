"""Reads a checkpoint of Hugging Face onto a mesh.

Every device's shard of a parameter is filled from the slices of the files that it needs, so no host
needs memory for more than one parameter's shards beside those that it keeps.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxgen.errors import InterchangeError
from jaxgen.interchange.configs import CLASS_NAME, check_counts, find_family, read_config
from jaxgen.interchange.entries import checked
from jaxgen.interchange.families import FAMILIES
from jaxgen.interchange.files import (
    CONFIG,
    PREPROCESSOR,
    TensorFiles,
    check_tensors,
    find_revision,
    read_json,
)
from jaxgen.interchange.layouts import Range
from jaxgen.interchange.parts import of_a_part, text_part
from jaxgen.interchange.placing import Placement, place
from jaxgen.interchange.tables import Family, Values
from jaxgen.json_values import check_shape
from jaxgen.models.base import abstract_model
from jaxgen.models.parameters import is_variable, named_parameters
from jaxgen.sharding.layout import Layout

ROWS_COMPARED = 4096
NAMES = {
    "architectures?": ([str], None),
    "model_type?": (str, None),
    f"{CLASS_NAME}?": (str, None),
}
"""The shape of what a config.json says of its family."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A folder whose config.json was read; no tensor was yet.

    Attributes:
      folder: its path.
      values: its config.json.
      family: the table that reads it.
      config: the model's, such as a TransformerConfig.
      part_of: the architecture whose text part the model is, or None.
    """

    folder: pathlib.Path
    values: Values
    family: Family
    config: Any
    part_of: str | None = None


def open_checkpoint(
    folder: str | os.PathLike,
    ignored: tuple[str, ...] = (),
    revision: str | None = None,
    text_only: bool = False,
) -> Checkpoint:
    """Reads the config.json of a folder.

    Args:
      folder: that of a checkpoint, or of all revisions of one (see `find_revision`).
      ignored: keys of config.json that a user says change nothing.
      revision: one of several.
      text_only: see `text_part`.

    Raises:
      InterchangeError: if there is no config.json, or it says something unsupported.
    """
    folder = find_revision(pathlib.Path(folder).expanduser(), revision)
    found = read_json(folder / CONFIG)
    try:
        check_shape(found, NAMES)
    except ValueError as error:
        raise InterchangeError(f"{folder / CONFIG}: {error}.") from error
    values, part_of = text_part(found, text_only)
    check_counts(values)
    family = find_family(FAMILIES, values)
    config = read_config(family, values, ignored)
    if part_of is not None:
        family = of_a_part(family, found, config, lambda: _shapes_in(folder))
    pixels = folder / PREPROCESSOR
    if family.images is not None and pixels.exists():
        config = family.images.read(config, read_json(pixels))
    checkpoint = Checkpoint(folder, values, family, config, part_of)
    if count := _num_modules(checkpoint):
        config = dataclasses.replace(config, mtp_depth=count)
    return dataclasses.replace(checkpoint, config=config)


def load_model(checkpoint: Checkpoint, layout: Layout = Layout()) -> Any:
    """Returns a checkpoint's model in float32, its parameters laid out on the mesh in force.

    Raises:
      InterchangeError: if the files are damaged, or lack a parameter of the model; nothing is read
        into memory before this is known.
    """
    abstract = abstract_model(checkpoint.config, layout)
    parameters = dict(named_parameters(abstract))
    arrays = load_parameters(checkpoint, {name: p.get_value() for name, p in parameters.items()})
    structure = jax.tree_util.tree_structure(abstract, is_leaf=is_variable)
    leaves = [parameter.replace(arrays[name]) for name, parameter in parameters.items()]
    return jax.tree_util.tree_unflatten(structure, leaves)


def load_parameters(
    checkpoint: Checkpoint, abstract: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
    """Returns the parameters of a checkpoint by dotted name.

    Args:
      checkpoint: an opened one.
      abstract: the model's parameters: shape, type and, where a mesh is used, layout.

    Raises:
      InterchangeError: see `load_model`.
    """
    shapes = {name: tuple(leaf.shape) for name, leaf in abstract.items()}
    placements = place(checkpoint.family, checkpoint.config, shapes)
    expected = {name: placed.tensor_shape for placed in placements for name, _ in placed.tensors()}
    with TensorFiles(checkpoint.folder, checkpoint.family.renames) as files:
        copies = [pair for pair in checkpoint.family.copies if pair[0] not in expected]
        copies += [
            (layer + copy, original)
            for layer in _extra_layers(checkpoint)
            for copy, original in checkpoint.family.module_copies
        ]
        copies += [
            (copy, name)
            for name in expected
            for copy in checkpoint.family.copies_of(checkpoint.config, name)
        ]
        computed = checkpoint.family.computed_for(checkpoint.config)
        may_have = (
            *map(re.escape, computed),
            *checkpoint.family.unused,
            *(re.escape(copy) for copy, _ in copies),
            *(re.escape(layer) + ".*" for layer in _unread_layers(checkpoint)),
        )
        check_tensors(files, expected, may_have)
        for copy, original in copies:
            if copy in files.shapes:
                _check_copy(files, copy, original)
        for name, value in computed.items():
            if name in files.shapes:
                _check_computed(files, name, value)
        return {
            name: load_array(files, placed, part, abstract[name])
            for placed in placements
            for part, name in enumerate(placed.names)
        }


def load_array(
    files: TensorFiles, placed: Placement, part: int, abstract: jax.ShapeDtypeStruct
) -> jax.Array:
    """Returns one parameter, laid out on the mesh."""
    blocks: dict[tuple[Range, ...], np.ndarray] = {}
    shape = placed.shapes[part]

    def block_of(index: tuple[slice, ...] | None) -> np.ndarray:
        slices = (slice(None),) * len(shape) if index is None else index
        ranges = tuple(piece.indices(size)[:2] for piece, size in zip(slices, shape, strict=True))
        # Replicas ask for the same block.
        if ranges not in blocks:
            blocks[ranges] = _read_block(files, placed, part, ranges, abstract.dtype)
        return blocks[ranges]

    sharding = abstract.sharding
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    elif isinstance(sharding, jax.NamedSharding):
        # Abstract shapes know the mesh's axes, not its devices.
        sharding = jax.NamedSharding(jax.sharding.get_mesh(), sharding.spec)
    return jax.make_array_from_callback(shape, sharding, block_of)


def _read_block(
    files: TensorFiles, placed: Placement, part: int, ranges: tuple[Range, ...], dtype: Any
) -> np.ndarray:
    """Returns one device's shard of a parameter."""
    outer, inner = ranges[: placed.num_outer], ranges[placed.num_outer :]
    block = np.empty([last - first for first, last in ranges], dtype)
    for place_in_block in np.ndindex(*block.shape[: placed.num_outer]):
        place_in_all = tuple(first + i for (first, _), i in zip(outer, place_in_block, strict=True))
        fetch = files.fetch(placed.tensor_name(place_in_all))
        block[place_in_block] = placed.read(fetch, inner, part)
    return block


def _check_copy(files: TensorFiles, copy: str, original: str) -> None:
    """Raises InterchangeError if a tensor that should repeat another one does not."""
    shape = files.shapes[original]
    alike = files.shapes[copy] == shape
    for first in range(0, shape[0], ROWS_COMPARED):
        rows = (slice(first, min(first + ROWS_COMPARED, shape[0])),)
        rows += tuple(slice(0, size) for size in shape[1:])
        alike = alike and np.array_equal(files.fetch(copy)(rows), files.fetch(original)(rows))
    if not alike:
        raise InterchangeError(
            f"{copy} in {files.folder} should repeat {original}, but they differ; if it is the "
            f"model's head, set tie_word_embeddings in {CONFIG} to what the model was trained with."
        )


def _check_computed(files: TensorFiles, name: str, value: np.ndarray) -> None:
    """Raises InterchangeError if a tensor that is no parameter has other values.

    Files may keep it in half precision.
    """
    found = None
    if files.shapes[name] == value.shape:
        found = files.fetch(name)(tuple(slice(0, size) for size in value.shape))
    if found is None or np.abs(found.astype(np.float32) - value).max() > 1e-2:
        raise InterchangeError(
            f"{name} in {files.folder} is a table of fixed numbers, {list(value.shape)}, and is "
            "not what this model computes; jaxgen has no parameter for another one."
        )


def _extra_layers(checkpoint: Checkpoint) -> list[str]:
    """Returns how names begin in the layers that, as config.json says, follow the last."""
    key = checkpoint.family.extra_layers
    count = checked(key, checkpoint.values.get(key) or 0, (int,)) if key else 0
    return [
        stack.theirs.format(layer=checkpoint.config.num_layers + i)
        for stack in checkpoint.family.stacks
        for i in range(count)
    ]


def _num_modules(checkpoint: Checkpoint) -> int:
    """Returns how many of these layers are modules of multi-token prediction that a file has."""
    layers, rows = _extra_layers(checkpoint), checkpoint.family.module_rows
    if not layers or not rows:
        return 0
    shapes = _shapes_in(checkpoint.folder, checkpoint.family.renames)
    return sum(one + rows[0].theirs in shapes for one in layers)


def _shapes_in(
    folder: pathlib.Path, renames: tuple[tuple[str, str], ...] = ()
) -> Mapping[str, tuple[int, ...]]:
    """Returns the shapes of a folder's tensors; none where it cannot be read, as is told later."""
    try:
        with TensorFiles(folder, renames) as files:
            return files.shapes
    except InterchangeError:
        return {}


def _unread_layers(checkpoint: Checkpoint) -> list[str]:
    return [] if checkpoint.family.module_rows else _extra_layers(checkpoint)
