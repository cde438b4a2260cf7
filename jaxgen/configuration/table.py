"""The table of names that a configuration may use, and what each of them takes."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Table = Mapping[str, Callable[..., Any]]
"""Name in gin to frozen dataclass, or to a function that builds one."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of a factory: the type of its value, and whether it must be set."""

    hint: Any
    required: bool


@functools.cache  # resolving type hints is most of the time of reading many files
def parameters(factory: Callable[..., Any]) -> Mapping[str, Parameter]:
    """Returns the parameters of a dataclass or function by name, in order."""
    if isinstance(factory, type) and dataclasses.is_dataclass(factory):
        hints = typing.get_type_hints(factory)
        return {
            field.name: Parameter(hints[field.name], _has_no_default(field))
            for field in dataclasses.fields(factory)
            if field.init
        }
    hints = typing.get_type_hints(factory)
    return {
        name: Parameter(hints.get(name, Any), parameter.default is parameter.empty)
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def dataclasses_in(value: Any) -> Iterator[Any]:
    """Yields every dataclass in a tree, in whatever containers."""
    parts: Iterable[Any] = ()
    if is_object(value):
        yield value
        parts = (getattr(value, field.name) for field in dataclasses.fields(value) if field.init)
    elif isinstance(value, (tuple, list)):
        parts = value
    elif isinstance(value, dict):
        parts = value.values()
    for part in parts:
        yield from dataclasses_in(part)


def is_object(value: Any) -> bool:
    """Returns whether a value is a dataclass, not a class."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
