"""Explains why a value is no part of a kind: what its class lacks, and which names have it."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from jaxgen.configuration.table import Table, parameters


def is_protocol(hint: Any) -> bool:
    """Returns whether a hint is a `typing.Protocol`."""
    return isinstance(hint, type) and bool(getattr(hint, "_is_protocol", False))


def protocols_in(hint: Any) -> Iterator[type]:
    """Yields the protocols of a hint such as `Optimizer | None` or `tuple[Step, ...]`."""
    if is_protocol(hint):
        yield hint
    for argument in typing.get_args(hint):
        yield from protocols_in(argument)


def lacking(kind: type, protocol: type) -> list[str]:
    """Returns what a class lacks: `no method build(schedule)`, `no attribute name`."""
    fields = parameters(kind) if dataclasses.is_dataclass(kind) else {}
    problems = []
    for name, member in _members(protocol).items():
        own = _attribute(kind, name)
        if member is None:
            if own is None and name not in fields and name not in _annotations(kind):
                problems.append(f"no attribute {name}")
        elif not callable(own):
            problems.append(f"no method {name}{_signature(member)}")
        elif isinstance(own, types.FunctionType) and not _takes(own, member):
            problems.append(f"{name}{_signature(own)} where {name}{_signature(member)} is called")
    return problems


def fitting(protocol: type, table: Table) -> list[str]:
    """Returns the names of the table whose classes have all that a protocol asks for.

    Methods of one name that two protocols share, such as `build`, are told apart by the names of
    their parameters.
    """
    return [
        name
        for name, factory in table.items()
        if isinstance(factory, type)
        and not lacking(factory, protocol)
        and _names_parameters_alike(factory, protocol)
    ]


def _names_parameters_alike(kind: type, protocol: type) -> bool:
    for name, member in _members(protocol).items():
        own = _attribute(kind, name)
        if member is not None and isinstance(own, types.FunctionType):
            expected = list(inspect.signature(member).parameters)
            if list(inspect.signature(own).parameters)[: len(expected)] != expected:
                return False
    return True


def _members(protocol: type) -> Mapping[str, Any]:
    """Returns a protocol's members: its methods by name, None for attributes and properties."""
    members: dict[str, Any] = {}
    for base in reversed(protocol.__mro__):
        if is_protocol(base) and base is not typing.Protocol:
            members |= dict.fromkeys(_own_annotations(base))
            members |= {
                name: member if isinstance(member, types.FunctionType) else None
                for name, member in vars(base).items()
                if (not name.startswith("_") or name == "__call__")
                and isinstance(member, (types.FunctionType, property))
            }
    return members


def _attribute(kind: type, name: str) -> Any:
    # Not getattr, which would find the `__call__` of classes.
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def _annotations(kind: type) -> set[str]:
    return {name for base in kind.__mro__ for name in _own_annotations(base)}


def _own_annotations(kind: type) -> Mapping[str, Any]:
    return inspect.get_annotations(kind)


def _takes(own: types.FunctionType, member: types.FunctionType) -> bool:
    """Returns whether a method can be called as the protocol's is."""
    try:
        arguments = [
            parameter
            for parameter in inspect.signature(member).parameters.values()
            if parameter.default is parameter.empty
        ]
        positional = [p.name for p in arguments if p.kind is not p.KEYWORD_ONLY]
        keywords = {p.name: None for p in arguments if p.kind is p.KEYWORD_ONLY}
        inspect.signature(own).bind(*positional, **keywords)
    except TypeError:
        return False
    return True


def _signature(function: types.FunctionType) -> str:
    names = [
        ("*" if parameter.kind is parameter.VAR_POSITIONAL else "") + name
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    ]
    return f"({', '.join(names)})"
