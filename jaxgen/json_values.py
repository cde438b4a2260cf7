"""JSON that anybody may have written: bounded, and checked to be of the expected shape.

A shape is a type (`float` is a finite number, whole ones too; `Real` may be infinite or none; no
number is a bool), None for null, `object` for anything, a function that raises ValueError, a tuple
of shapes one of which fits, [SHAPE] for a list, {str: SHAPE} for an object with any names, or
{"name": SHAPE, "other?": SHAPE} for one with these, where a name with a question mark may be
missing and further names may be there.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from jaxgen.errors import CheckpointError, JaxgenError

MOST_BYTES = 2**28
"""Of a JSON file that is read as one value; its Python objects take up to 30 times as much."""
MOST_DEPTH = 64
"""Brackets within brackets."""
MOST_DIGITS = 60
"""Of a whole number, so that products of a few are floats as well."""
NAMES = {str: "text", bool: "true or false", int: "a whole number", float: "a finite number",
         Real: "a number", dict: "an object", list: "a list", None: "null",
         type(None): "null"}  # fmt: skip


def parse_json(data: bytes | str, parse_int: Callable[[str], int] | None = None) -> Any:
    """Returns a JSON value.

    Args:
      data: the text, or its UTF-8.
      parse_int: makes a whole number of its digits; by default, one of at most MOST_DIGITS.

    Raises:
      ValueError: if it is none, or one that is nested too deep or has a number of too many digits.
    """
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    try:
        value = json.loads(text, parse_int=parse_int or _whole_number)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if text.count("[") + text.count("{") > MOST_DEPTH:
        _check_depth(value)
    return value


def read_json(
    path: pathlib.Path,
    shape: Any,
    fix: str,
    error: type[JaxgenError] = CheckpointError,
    most_bytes: int = MOST_BYTES,
) -> Any:
    """Returns the JSON value of a file.

    Args:
      path: of the file.
      shape: see the module.
      fix: what a person can do if the file is damaged.
      error: what is raised then.
      most_bytes: a larger file is refused before it is read.

    Raises:
      FileNotFoundError, NotADirectoryError: if there is no file.
      JaxgenError: of the type `error`, if it cannot be read or is of another shape.
    """
    try:
        if (size := os.stat(path).st_size) > most_bytes:
            raise ValueError(f"it has {size} bytes, and at most {most_bytes} are read")
        value = _parsed(path.read_bytes())
        check_shape(value, shape)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) else wrong
        raise error(f"{path} cannot be read ({why}); {fix}.") from wrong
    return value


def _parsed(data: bytes) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error


def check_shape(value: Any, shape: Any, place: str = "it") -> None:
    """Compares a JSON value with a shape; see the module.

    Raises:
      ValueError: naming the place, such as "evaluation.addition.loss is 'low', and must be ...".
    """
    if isinstance(shape, tuple):
        if not any(_fits(value, one) for one in shape):
            raise ValueError(f"{place} is {_short(value)}, and must be {_name(shape)}")
    elif isinstance(shape, Mapping):
        check_shape(value, dict, place)
        inside = "" if place == "it" else f"{place}."
        if str in shape:
            for name, one in value.items():
                check_shape(one, shape[str], inside + name)
            return
        for key, wanted in shape.items():
            name = key.removesuffix("?")
            if name in value:
                check_shape(value[name], wanted, inside + name)
            elif name == key:
                raise ValueError(f"{inside}{name} is missing")
    elif isinstance(shape, list):
        check_shape(value, list, place)
        for number, one in enumerate(value):
            check_shape(one, shape[0], f"{place}[{number}]")
    elif shape is not None and not isinstance(shape, type):
        try:
            shape(value)
        except ValueError as error:
            raise ValueError(f"{place} is {_short(value)}, and {error}") from error
    elif not _is_of(value, shape):
        raise ValueError(f"{place} is {_short(value)}, and must be {_name(shape)}")


def is_finite(value: Any) -> bool:
    """Returns whether a JSON value is a finite number."""
    return _is_of(value, float)


def check_time(value: Any) -> None:
    """Raises ValueError unless a value is a time in ISO form with its zone."""
    try:
        if datetime.datetime.fromisoformat(value).tzinfo is not None:
            return
    except (TypeError, ValueError):
        pass
    raise ValueError("must be a time such as 2026-11-28T06:00:00+00:00")


def check_pair(value: Any) -> None:
    """Raises ValueError unless a value is a list of two finite numbers."""
    if not (isinstance(value, list) and len(value) == 2 and all(map(is_finite, value))):
        raise ValueError("must be two numbers")


def can_be_written(text: str) -> bool:
    """Returns whether UTF-8 can write a text: JSON may escape half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_file_name(value: Any) -> None:
    """Raises ValueError unless a value names a file in a folder, and none outside."""
    is_name = isinstance(value, str) and value not in ("", ".", "..")
    if not is_name or {*"/\\\0"} & {*value} or not can_be_written(value):
        raise ValueError("must be the name of a file in the folder, none outside")


def _fits(value: Any, shape: Any) -> bool:
    try:
        check_shape(value, shape)
    except ValueError:
        return False
    return True


def _is_of(value: Any, kind: Any) -> bool:
    if kind is None:
        return value is None
    if isinstance(value, bool):
        return kind in (bool, object)
    if kind is float:
        try:
            return isinstance(value, int | float) and math.isfinite(value)
        except OverflowError:  # A whole number beyond all floats.
            return False
    return isinstance(value, kind)


def _name(shape: Any) -> str:
    if isinstance(shape, tuple):
        return " or ".join(_name(one) for one in shape)
    if callable(shape) and not isinstance(shape, type):
        return "as above"
    kind = dict if isinstance(shape, Mapping) else list if isinstance(shape, list) else shape
    return NAMES[kind]


def _short(value: Any) -> str:
    return f"{value!r:.60}"


def _whole_number(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {MOST_DEPTH}")
