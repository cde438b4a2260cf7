"""A family of models as tables: its config.json and its tensors, each beside ours.

Import and export use the same tables; an export checks itself by importing what it would write.
A family's models are transformers, unless it says another kind of configuration and how fields make
one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import numpy as np

from jaxgen.interchange.layouts import FileLayout
from jaxgen.models.config import TransformerConfig
from jaxgen.models.stack_config import StackConfig

Values = Mapping[str, Any]


class Entry(Protocol):
    """A part of a family's config.json.

    Attributes:
      keys: the keys of config.json that it reads and writes.
    """

    @property
    def keys(self) -> tuple[str, ...]: ...

    def read(self, values: Values, /) -> dict[str, Any]:
        """Returns fields of the configuration by dotted name, such as "moe.num_experts".

        Raises:
          InterchangeError: naming a key, its value and what is supported.
        """
        ...

    def write(self, config: Any, /) -> dict[str, Any]:
        """Returns keys of config.json for a configuration, as nearly as the family allows."""
        ...


@dataclasses.dataclass(frozen=True)
class TensorRow:
    """Parameters and the tensor that they are stored in.

    Attributes:
      ours: the parameter's name; of several that share a tensor, in the order of "part". A word in
        braces, such as "{block}", stands for any number, and for the same in `theirs`.
      theirs: the tensor's name; "{expert}" stands for a number of an expert or head, which is then
        the parameter's first axis and no axis of the tensor.
      layout: that of one layer and one expert.
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
    """The tensors of a stack's layers.

    Attributes:
      ours: the stack's dotted name in the model, such as "stack" or "vision.stack".
      theirs: the beginning of every name, with "{layer}" for the layer's number.
      rows: those of one layer.
      config: the dotted name of the stack's part of the configuration; "": it is the whole.
    """

    ours: str
    theirs: str
    rows: tuple[TensorRow, ...]
    config: str = ""

    def config_of(self, config: Any) -> StackConfig | None:
        """Returns the stack's configuration; None where a model has no such stack."""
        for part in self.config.split(".") if self.config else ():
            if config is None:
                return None
            if not part.isdigit():
                config = getattr(config, part)
            elif len(config) > int(part):
                config = config[int(part)]
            else:
                return None
        return config

    def num_layers(self, config: Any) -> int:
        """Returns how many layers the stack has."""
        groups = getattr(self.config_of(config), "groups", ())
        return sum(len(group.unit) * group.repeats for group in groups)


@dataclasses.dataclass(frozen=True)
class ImageTable:
    """A family's preprocessor_config.json, which says what is done to an image's pixels.

    Attributes:
      read: (configuration, preprocessor_config.json) to the configuration with what it says.
      write: the configuration to preprocessor_config.json.
    """

    read: Callable[[Any, Values], Any]
    write: Callable[[Any], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Family:
    """The tables of one family of checkpoints.

    Attributes:
      name: the name in messages and for --family.
      architectures: the class names in config.json that it reads; it writes the first.
      model_types: likewise.
      entries: those of config.json.
      inert: keys of config.json that change nothing of what the model computes.
      rows: those of the parameters outside the layers.
      stacks: those of the parameters in the layers.
      renames: (pattern, replacement) for tensors with other names in older files.
      unused: patterns of tensors that some files have and that compute nothing: copies of tied
        ones, buffers, heads of other tasks.
      copies: (tensor, the tensor that it repeats where weights are tied); a file may have it.
      written: further keys of config.json.
      constants: fields of the configuration, by dotted name, that all models of the family share.
      accepts: whether a config.json is of this family, where two share an architecture.
      extra_layers: the key of the number of layers after the last.
      module_rows: those of a module of multi-token prediction, beside its block's; where a file has
        such modules, they are the extra layers. Without rows these are not read.
      module_copies: (tensor of an extra layer, the tensor that it repeats); a file may have it.
      kind: the class of its models' configurations.
      assemble: makes one from fields by dotted names; None: as a TransformerConfig is made.
      images: how its models see pixels, in both directions; None: they see none.
      token_section: the key of the object that has the ids of special tokens; "": config.json.
      library: whose folders they are. Those of `diffusers` name the class, and no type, in
        config.json, and their files diffusion_pytorch_model.
      denoiser: the class of a model of diffusion's denoiser, where that is its `kind`.
      repeated: beginnings of names of layer 0's tensors, with "{layer}" for the number, that every
        layer has: they are read once, compared, and written for all.
      computed: (tensor, the configuration to its values, or to None where it has none) for tensors
        that are no parameters, such as tables of fixed positions; those of a file must be so.
      of_training: beginnings of names of parameters that only training uses, and no file has.
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
    module_rows: tuple[TensorRow, ...] = ()
    module_copies: tuple[tuple[str, str], ...] = ()
    kind: type = TransformerConfig
    assemble: Callable[[dict[str, Any]], Any] | None = None
    images: ImageTable | None = None
    token_section: str = ""
    library: Literal["transformers", "diffusers"] = "transformers"
    denoiser: type | None = None
    repeated: tuple[str, ...] = ()
    computed: tuple[tuple[str, Callable[[Any], np.ndarray | None]], ...] = ()
    of_training: tuple[str, ...] = ()

    def describes(self, config: Any) -> bool:
        """Returns whether a configuration is of the class that the family's are."""
        if not isinstance(config, self.kind):
            return False
        return self.denoiser is None or isinstance(getattr(config, "denoiser", None), self.denoiser)

    def computed_for(self, config: Any) -> dict[str, np.ndarray]:
        """Returns the tensors of a model that are no parameters."""
        found = {name: make(config) for name, make in self.computed}
        return {name: value for name, value in found.items() if value is not None}

    def copies_of(self, config: Any, name: str) -> tuple[str, ...]:
        """Returns the tensors of other layers that repeat the tensor of a name."""
        for pattern in self.repeated:
            first = pattern.format(layer=0)
            if name.startswith(first):
                layers = range(1, self.stacks[0].num_layers(config))
                rest = name.removeprefix(first)
                return tuple(pattern.format(layer=layer) + rest for layer in layers)
        return ()
