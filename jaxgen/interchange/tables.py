"""A family of models as tables: its config.json and its tensors, each against ours.

Both directions are read from the same tables: an import reads them from right to left, an export
from left to right, and checks itself by importing what it would write.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jaxgen.interchange.layouts import FileLayout
from jaxgen.models.config import TransformerConfig

Values = Mapping[str, Any]


class Entry(Protocol):
    """A part of a family's config.json.

    Attributes:
      keys: those of config.json that it accounts for.
    """

    @property
    def keys(self) -> tuple[str, ...]: ...

    def read(self, values: Values, /) -> dict[str, Any]:
        """Returns fields of a TransformerConfig by dotted name, such as "moe.num_experts".

        Raises:
          InterchangeError: naming a key, its value and what is supported.
        """
        ...

    def write(self, config: TransformerConfig, /) -> dict[str, Any]:
        """Returns keys of config.json for a configuration, as nearly as the family allows."""
        ...


@dataclasses.dataclass(frozen=True)
class TensorRow:
    """Parameters and the tensor that holds them.

    Attributes:
      ours: the parameter's name; several that share a tensor in the order of "part".
      theirs: the tensor's name; "{expert}" stands for the number of an expert, which is then the
        parameter's first axis and no axis of the tensor.
      layout: of one layer and one expert.
    """

    ours: tuple[str, ...]
    theirs: str
    layout: FileLayout

    @property
    def of_experts(self) -> bool:
        """Returns whether there is a tensor for each expert."""
        return "{expert}" in self.theirs

    @property
    def num_axes(self) -> int:
        """Returns the parameter's axes in one layer; sparse rows have one more than dense ones."""
        return len(self.layout.axes) + self.of_experts


def row(ours: str, theirs: str, axes: str, file: str | None = None) -> TensorRow:
    """Makes a row from patterns; `file` is for a tensor whose axes differ from the parameter's."""
    return TensorRow(tuple(ours.split()), theirs, FileLayout.parse(axes, file or axes))


@dataclasses.dataclass(frozen=True)
class StackTable:
    """Where the layers of a stack are.

    Attributes:
      ours: "stack" or "encoder".
      theirs: what stands before a row's name, with "{layer}" for the layer's number.
      rows: of one layer.
    """

    ours: str
    theirs: str
    rows: tuple[TensorRow, ...]


@dataclasses.dataclass(frozen=True)
class Family:
    """All that tells one family of checkpoints from another.

    Attributes:
      name: for messages and --family.
      architectures: the class names in config.json that it is read for; the first is written.
      model_types: likewise.
      entries: of config.json.
      inert: keys of config.json that change nothing of what the model computes.
      rows: of the parameters outside of the layers.
      stacks: of those in the layers.
      renames: (pattern, replacement) for tensors that older files call otherwise.
      unused: patterns of tensors that stand in some files and compute nothing: copies of tied
        ones, buffers, heads of other tasks.
      copies: (tensor, the tensor that it repeats where weights are tied); a file may have it.
      written: what else config.json says.
      constants: fields of a TransformerConfig, by dotted name, that all models of the family share.
      accepts: whether a config.json of this architecture is of this family, where two share one.
      extra_layers: the key that says how many layers, which are not read, follow the last.
    """

    name: str
    architectures: tuple[str, ...]
    model_types: tuple[str, ...]
    entries: tuple[Entry, ...]
    rows: tuple[TensorRow, ...]
    stacks: tuple[StackTable, ...]
    inert: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    copies: tuple[tuple[str, str], ...] = ()
    written: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    accepts: Callable[[Values], bool] = lambda values: True
    extra_layers: str | None = None
