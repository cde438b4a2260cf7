"""Checks a value against a type hint, and gives it the type that the hint names.

A list becomes the tuple and an int the float that is asked for; nothing else is converted.
"""

from __future__ import annotations

import collections.abc
import numbers
import types
import typing
from collections.abc import Callable
from typing import Any


def conform(value: Any, hint: Any) -> Any:
    """Returns the value as the hint has it.

    Integers of other libraries (numpy) become int, and real numbers float; a bool is no number.
    In a union the first member that takes the value unchanged wins, else the first that takes it.

    Raises:
      TypeError: if the value is not of the type.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is int or hint is float:
        return _number(value, hint)
    if origin in (typing.Union, types.UnionType):
        return _member(value, arguments)
    if hint is tuple or origin is tuple:
        return _tuple(value, arguments)
    if origin in (list, collections.abc.Sequence) and isinstance(value, (list, tuple)):
        if origin is list and not isinstance(value, list):
            raise TypeError
        return type(value)(conform(item, arguments[0]) for item in value)
    if origin in (dict, collections.abc.Mapping) and isinstance(value, dict):
        key_hint, value_hint = arguments
        return {conform(key, key_hint): conform(item, value_hint) for key, item in value.items()}
    return _checked(value, hint)


def describe(hint: Any) -> str:
    """Returns the hint as short text: `int | None`, `tuple[str, ...]`, `AdamW | Adafactor`."""
    if hint is type(None):
        return "None"
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    arguments, origin = typing.get_args(hint), typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(describe(member) for member in arguments)
    if origin is typing.Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if origin is not None:
        inner = ", ".join("..." if item is ... else describe(item) for item in arguments)
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    return str(hint).removeprefix("typing.")


def _number(value: Any, kind: Callable[[Any], Any]) -> Any:
    abstract = numbers.Integral if kind is int else numbers.Real
    if isinstance(value, bool) or not isinstance(value, abstract):
        raise TypeError
    return value if type(value) is kind else kind(value)


def _member(value: Any, members: tuple[Any, ...]) -> Any:
    accepted = []
    for member in members:
        try:
            conformed = conform(value, member)
        except TypeError:
            continue
        if type(conformed) is type(value) and conformed == value:
            return conformed
        accepted.append(conformed)
    if not accepted:
        raise TypeError
    return accepted[0]


def _tuple(value: Any, items: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        raise TypeError
    if not items:
        return tuple(value)
    if len(items) == 2 and items[1] is ...:
        items = (items[0],) * len(value)
    if len(items) != len(value) and items != ((),):
        raise TypeError
    return tuple(conform(item, hint) for item, hint in zip(value, items, strict=True))


def _checked(value: Any, hint: Any) -> Any:
    import typeguard

    try:
        return typeguard.check_type(
            value, hint, collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS
        )
    except typeguard.TypeCheckError as error:
        raise TypeError from error
