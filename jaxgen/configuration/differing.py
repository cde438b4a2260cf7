"""The differences of two configurations, by path."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from jaxgen.configuration.rendering import field_values, literal

_ABSENT = object()


def differences(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Lines such as `model.num_layers: 4 -> 6` and `tasks[1].weight: absent -> 0.5`.

    Containers are compared item by item; where the kinds differ, the two values are shown.
    """
    if type(a) is not type(b):
        yield f"{path or 'configuration'}: {_shown(a)} -> {_shown(b)}"
    elif dataclasses.is_dataclass(a):
        fields_of_a, fields_of_b = field_values(a, path), field_values(b, path)
        counted = {field.name for field in dataclasses.fields(a) if field.compare}
        files = getattr(type(a), "DATA_FILES", ())
        for name in (name for name in fields_of_a if name in counted):
            if name in files and _same_file(fields_of_a[name], fields_of_b[name]):
                continue
            inner = f"{path}.{name}" if path else name
            yield from differences(fields_of_a[name], fields_of_b[name], inner)
    elif isinstance(a, (tuple, list)):
        for index in range(max(len(a), len(b))):
            left, right = (items[index] if index < len(items) else _ABSENT for items in (a, b))
            yield from differences(left, right, f"{path}[{index}]")
    elif isinstance(a, dict):
        for key in sorted({**a, **b}, key=lambda key: literal(key, path)):
            inner = f"{path}[{literal(key, path)}]"
            yield from differences(a.get(key, _ABSENT), b.get(key, _ABSENT), inner)
    elif literal(a, path) != literal(b, path):
        yield f"{path}: {_shown(a)} -> {_shown(b)}"


def compared(config: Any) -> Any:
    """Returns the tree with the fields that do not count in comparisons at their defaults."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        kept = {f.name: f for f in dataclasses.fields(config) if f.init}
        changes = {
            name: compared(getattr(config, name)) if field.compare else field.default
            for name, field in kept.items()
            if field.compare or field.default is not dataclasses.MISSING
        }
        return dataclasses.replace(config, **changes)
    if isinstance(config, (tuple, list)):
        return type(config)(compared(item) for item in config)
    if isinstance(config, dict):
        return {key: compared(item) for key, item in config.items()}
    return config


def _same_file(a: Any, b: Any) -> bool:
    """Returns whether two paths, seen from the current folder, are of one file."""
    if not isinstance(a, str) or not isinstance(b, str) or "://" in a + b:
        return a == b
    return os.path.realpath(os.path.expanduser(a)) == os.path.realpath(os.path.expanduser(b))


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
