"""A tree of dataclasses as gin text: complete, canonical, and read back to an equal tree."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from jaxgen.configuration.conforming import conform, describe
from jaxgen.configuration.imports import modules_used, with_parts
from jaxgen.configuration.protocols import lacking, protocols_in
from jaxgen.configuration.table import Table, dataclasses_in, is_object
from jaxgen.errors import ConfigError

_WIDTH = 100
_PATH = tuple[str, ...]


def render(config: Any, table: Table) -> str:
    """Returns gin text with every field of every dataclass in the tree as one binding.

    What occurs once in the tree has no scope, so that `--gin.train.steps=3` changes a saved file as
    it would the original. Of a class that occurs more often each has its path as its scope (`_0` is
    the first item of a container); as every field is written, no scope takes values from another.
    A class that is not in the table has the name that `--import` gives it, and an import line tells
    its module.

    Raises:
      ConfigError: for a value that gin cannot write, or that is not of its field's type.
    """
    modules = modules_used(config, table)
    by_kind = {id(kind): name for name, kind in with_parts(table, modules).items()}
    occurrences = Counter(type(part) for part in dataclasses_in(config))
    names = {
        kind: _Name(by_kind.get(id(kind)) or _full_name(kind), scoped=count > 1)
        for kind, count in occurrences.items()
    }
    imports = [[f"import {module.__name__}" for module in modules]] if modules else []
    sections = [*imports, *_objects(config, (), names)]
    return "\n".join("".join(f"{line}\n" for line in lines) for lines in sections)


def _full_name(kind: type) -> str:
    """Returns module and class of what no import can find, such as a class in a function."""
    return f"{kind.__module__}.{kind.__qualname__}".replace(".<locals>", "")


def digest(text: str) -> str:
    """Returns the first 12 hexadecimal digits of the text's sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def field_values(config: Any, path: str) -> dict[str, Any]:
    """Returns the fields that a dataclass is made from, each as its type hint has it.

    Raises:
      ConfigError: for a value that is not of its field's type.
    """
    hints = typing.get_type_hints(type(config))
    values = {}
    for field in dataclasses.fields(config):
        if field.init:
            value = getattr(config, field.name)
            try:
                values[field.name] = conform(value, hints[field.name])
            except TypeError:
                lacks = [
                    f"; it has {'; '.join(problems)}"
                    for protocol in protocols_in(hints[field.name])
                    if (problems := lacking(type(value), protocol))
                ]
                raise ConfigError(
                    f"{path}.{field.name} must be {describe(hints[field.name])}, not {value!r} "
                    f"({type(value).__name__}){''.join(lacks)}"
                ) from None
    return values


def literal(value: Any, path: str) -> str:
    """Returns a value without dataclasses on one line.

    Raises:
      ConfigError: for a value that gin has no literal for.
    """
    return _layout(_skeleton(value, (path,), None, []), 0, math.inf)


@dataclasses.dataclass(frozen=True)
class _Group:
    """A container of texts and groups that can be written on one line or on several."""

    brackets: str
    items: tuple[str | _Group, ...]
    keys: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Name:
    """The name of the objects of a class, in the scope of their path or in none."""

    name: str
    scoped: bool

    def at(self, path: _PATH) -> str:
        return "/".join((*path, self.name)) if self.scoped else self.name


_Names = Mapping[type, _Name]


def _objects(config: Any, path: _PATH, names: _Names) -> Iterator[list[str]]:
    """Returns the lines of the dataclass at `path`, then those of the dataclasses in it."""
    name = names[type(config)].at(path)
    lines, inner = [], []
    for parameter, value in field_values(config, name).items():
        prefix = f"{name}.{parameter} = "
        text = _layout(_skeleton(value, (*path, parameter), names, inner), len(prefix), _WIDTH)
        lines.append(prefix + text)
    if lines:
        yield lines
    for inner_path, inner_config in inner:
        yield from _objects(inner_config, inner_path, names)


def _skeleton(
    value: Any, path: _PATH, names: _Names | None, inner: list[tuple[_PATH, Any]]
) -> str | _Group:
    """Returns a value as texts and groups; its dataclasses become references and join `inner`."""

    def items(values: Any) -> tuple[str | _Group, ...]:
        return tuple(
            _skeleton(item, (*path, f"_{index}"), names, inner) for index, item in enumerate(values)
        )

    if names is not None and is_object(value):
        inner.append((path, value))
        return f"@{names[type(value)].at(path)}()"
    match value:
        case None | bool():
            return repr(value)
        case str():
            return str.__repr__(value)
        case int():
            return int.__repr__(value)
        case float() if not math.isnan(value):
            # gin has no infinity; the literal of a number too large for a float is one.
            return float.__repr__(value).replace("inf", "1e999")
        case tuple():
            return _Group("()", items(value))
        case list():
            return _Group("[]", items(value))
        case dict():
            by_key = sorted((literal(key, ".".join(path)), item) for key, item in value.items())
            return _Group("{}", items(item for _, item in by_key), tuple(key for key, _ in by_key))
    raise ConfigError(
        f"{'.'.join(path)} is {value!r} ({type(value).__name__}), which a gin file cannot hold; "
        "use a dataclass, a tuple, a dict, a string, a number or None"
    )


def _layout(node: str | _Group, column: int, width: float) -> str:
    """Returns the text of a node that starts at `column`, broken where it is too long."""
    if isinstance(node, str):
        return node
    opening, closing = node.brackets
    keys = [f"{key}: " for key in node.keys] or [""] * len(node.items)
    comma = "," if opening == "(" and len(node.items) == 1 else ""
    flat = [key + _layout(item, 0, math.inf) for key, item in zip(keys, node.items, strict=True)]
    line = opening + ", ".join(flat) + comma + closing
    if column + len(line) <= width or not node.items:
        return line
    broken = (
        key + _layout(item, len(key) + 1, width - 4)
        for key, item in zip(keys, node.items, strict=True)
    )
    inner = "".join(f"{text},\n" for text in broken)
    return opening + "\n" + _indent(inner) + closing


def _indent(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())
