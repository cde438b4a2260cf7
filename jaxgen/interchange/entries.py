"""The kinds of entries in a family's table of config.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.tables import Values
from jaxgen.models.stack_config import BiasGroup

REQUIRED = object()
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu2",
}


@dataclasses.dataclass(frozen=True)
class Field:
    """A key that has the value of one field.

    Attributes:
      key: the name in config.json.
      field: the dotted name in the configuration.
      default: the field where config.json lacks the key or has null; REQUIRED refuses that.
      kinds: types of the value.
      values: maps theirs to ours, if they differ; of synonyms the first is written.
      aliases: other names of the key.
    """

    key: str
    field: str
    default: Any = REQUIRED
    kinds: tuple[type, ...] = (int,)
    values: Mapping[Any, Any] | None = None
    aliases: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Returns the key and its aliases."""
        return (self.key, *self.aliases)

    def read(self, values: Values) -> dict[str, Any]:
        found = [key for key in self.keys if values.get(key) is not None]
        if not found:
            if self.default is REQUIRED:
                raise InterchangeError(f"config.json lacks {self.key!r}; it has {sorted(values)}.")
            return {self.field: self.default}
        value = checked(found[0], values[found[0]], self.kinds)
        if self.values is not None:
            value = self.values[among(found[0], value, tuple(self.values))]
        return {self.field: value}

    def write(self, config: Any) -> dict[str, Any]:
        value = get_field(config, self.field)
        if self.values is not None:
            named = [theirs for theirs, ours in self.values.items() if ours == value]
            value = (named or list(self.values))[0]
        return {self.key: value}


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A key that must have one value, as jaxgen's models compute nothing else there."""

    key: str
    value: Any

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,)

    def read(self, values: Values) -> dict[str, Any]:
        """Returns no field; refuses another value."""
        if values.get(self.key) is not None:
            among(self.key, values[self.key], (self.value,))
        return {}

    def write(self, config: Any) -> dict[str, Any]:
        del config
        return {self.key: self.value}


@dataclasses.dataclass(frozen=True)
class Biases:
    """A switch for the biases of some groups, and what it is where config.json lacks it."""

    key: str
    groups: tuple[BiasGroup, ...]
    default: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,)

    def read(self, values: Values) -> dict[str, Any]:
        """Returns whether the groups have biases."""
        found = values.get(self.key)
        has = checked(self.key, self.default if found is None else found, (bool,))
        return {f"biases.{group}": has for group in self.groups}

    def write(self, config: Any) -> dict[str, Any]:
        return {self.key: any(config.has_bias(group) for group in self.groups)}


@dataclasses.dataclass(frozen=True)
class Linked:
    """Keys and fields that functions of a family convert together."""

    keys: tuple[str, ...]
    read: Callable[[Values], dict[str, Any]]
    write: Callable[[Any], dict[str, Any]]


def get_field(config: Any, name: str) -> Any:
    """Returns a field by its dotted name, as it takes effect; None if a part on the way is None.

    A part of a tuple is named by its number; "" is the whole.
    """
    if name in ("num_kv_heads", "head_dim"):
        return config.kv_heads if name == "num_kv_heads" else config.width_of_head
    value: Any = config
    for part in name.split(".") if name else ():
        if part.isdigit():
            value = value[int(part)] if value and int(part) < len(value) else None
        else:
            value = getattr(value, part, None)
    return value


def checked(key: str, value: Any, kinds: tuple[type, ...]) -> Any:
    """Returns the value.

    Raises:
      InterchangeError: if it is of none of the types.
    """
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)):
        return value
    if float in kinds and is_number:
        return float(value)
    names = " or ".join(kind.__name__ for kind in kinds)
    raise InterchangeError(f"config.json says {key}={value!r}, which should be {names}.")


def among(key: str, value: Any, supported: tuple[Any, ...]) -> Any:
    """Returns the value.

    Raises:
      InterchangeError: if it is not supported.
    """
    if value in supported:
        return value
    named = ", ".join(repr(one) for one in supported)
    raise InterchangeError(f"config.json says {key}={value!r}; jaxgen supports {named} here.")


def vocabulary(tie_by_default: bool) -> tuple[Field, Field]:
    """Returns the entries of the vocabulary's size and of tied embeddings."""
    return (
        Field("vocab_size", "vocab_size"),
        Field("tie_word_embeddings", "tie_embeddings", tie_by_default, (bool,)),
    )


def activation(key: str, default: Any) -> Field:
    """Returns the entry of the feed-forward's activation."""
    return Field(key, "activation", default, (str,), ACTIVATIONS)
