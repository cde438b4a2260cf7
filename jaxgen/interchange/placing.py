"""Placements: the tensors of a family that each parameter of a model is stored in."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.errors import InterchangeError
from jaxgen.interchange.layouts import Fetch, Range
from jaxgen.interchange.tables import Family, TensorRow

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Placement:
    """Parameters that share tensors, and these tensors' names.

    Attributes:
      names: the parameters', in the order of the row's "part".
      shapes: theirs, each [layers,] [experts,] and the row's axes.
      row: of the family's table.
      prefix: the beginning of the tensors' names, with "{layer}" if there are layers.
      layers: the layers along the first axis; empty outside of a stack.
    """

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    row: TensorRow
    prefix: str = ""
    layers: tuple[int, ...] = ()

    @property
    def inner_shapes(self) -> tuple[Shape, ...]:
        """Returns the parameters' shapes in one layer and one expert."""
        return tuple(shape[self.num_outer :] for shape in self.shapes)

    @property
    def num_outer(self) -> int:
        """Returns how many axes, of layers and experts, tell tensors apart."""
        return bool(self.layers) + self.row.of_experts

    @property
    def tensor_shape(self) -> Shape:
        """Returns the shape of each tensor in the file."""
        return self.row.layout.file_shape(self.inner_shapes)

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yields each tensor's name, and its index along the outer axes."""
        for place in np.ndindex(*self.shapes[0][: self.num_outer]):
            yield self.tensor_name(place), place

    def tensor_name(self, place: Sequence[int]) -> str:
        """Returns the name of the tensor at an index along the outer axes."""
        words = {"expert": place[-1] if self.row.of_experts else None}
        words["layer"] = self.layers[place[0]] if self.layers else None
        return (self.prefix + self.row.theirs).format(**words)

    def read(self, fetch: Fetch, ranges: Sequence[Range], part: int) -> np.ndarray:
        """Returns a block of one parameter in one layer and expert; `fetch` reads its tensor."""
        return self.row.layout.read(fetch, self.inner_shapes, ranges, part)


def place(family: Family, config: Any, shapes: Mapping[str, Shape]) -> tuple[Placement, ...]:
    """Places all parameters of a model.

    Args:
      family: the family of the tensors.
      config: the model's.
      shapes: those of its parameters, by dotted name.

    Raises:
      InterchangeError: naming the parameters that the family has no tensor for.
    """
    left = {n: shape for n, shape in shapes.items() if not n.startswith(family.of_training)}
    placements = list(_take(family.rows, left, "", "", ()))
    for stack in family.stacks:
        config_of = stack.config_of(config)
        groups = () if config_of is None else config_of.groups
        first = 0
        for number, group in enumerate(groups):
            for block in range(len(group.unit)):
                layers = tuple(first + repeat * len(group.unit) + block
                               for repeat in range(group.repeats))  # fmt: skip
                ours = f"{stack.ours}.groups.{number}.blocks.{block}."
                placements += _take(stack.rows, left, ours, stack.theirs, layers)
            first += group.repeats * len(group.unit)
    for depth in range(getattr(config, "mtp_depth", 0)):
        ours, number = f"mtp.{depth}.", config.num_layers + depth
        stack = family.stacks[0]
        if family.module_rows:
            block = ours + "stack.groups.0.blocks.0."
            placements += _take(stack.rows, left, block, stack.theirs, (number,))
            theirs = stack.theirs.format(layer=number)
            placements += _take(family.module_rows, left, ours, theirs, ())
        else:  # Only training uses modules: a family without them has the model without them.
            left = {name: shape for name, shape in left.items() if not name.startswith(ours)}
    if left:
        named = ", ".join(f"{name} {list(shape)}" for name, shape in left.items())
        raise InterchangeError(f"{family.name} has no tensor for these parameters: {named}.")
    return tuple(placements)


def _take(
    rows: Sequence[TensorRow],
    left: dict[str, Shape],
    ours: str,
    theirs: str,
    layers: tuple[int, ...],
) -> Iterator[Placement]:
    """Yields placements of the rows whose parameters are still left, and takes these out."""
    for row in (one for pattern in rows for one in _numbered(pattern, ours, left)):
        names = tuple(ours + name for name in row.ours)
        found = tuple(left[name] for name in names if name in left)
        if len(found) == len(names) and len(found[0]) == row.num_axes + bool(layers):
            yield Placement(names, found, row, theirs, layers)
            for name in names:
                del left[name]


def _numbered(row: TensorRow, ours: str, left: Mapping[str, Shape]) -> Iterator[TensorRow]:
    """Yields a row for all of the numbers that its names leave open, as "{block}" does."""
    if "{" not in row.ours[0]:
        yield row
        return
    pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(ours + row.ours[0]))
    for found in [re.fullmatch(pattern, name) for name in left]:
        if found is not None:
            names, theirs = tuple(name.format(**found.groupdict()) for name in row.ours), row.theirs
            for word, number in found.groupdict().items():
                theirs = theirs.replace(f"{{{word}}}", number)
            yield dataclasses.replace(row, ours=names, theirs=theirs)
