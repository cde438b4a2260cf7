"""A report's specification as JSON, which the page paints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.studies.axes import axis_limits, axis_ticks
from jaxgen.studies.plots import Plot

DIGITS = 6
"""Significant digits of coordinates; a screen shows fewer."""


def to_json(value: Any) -> Any:
    """Returns a specification as JSON has it, with the class of each part as its "kind"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        found["kind"] = type(value).__name__
        if isinstance(value, Plot):
            for of in ("x", "y"):
                limits = axis_limits(value, of)
                found[of] |= {"limits": to_json(limits)}
                found[of]["ticks"] = to_json(axis_ticks(getattr(value, of), limits))
        return found
    if isinstance(value, Mapping):
        return {key: to_json(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_json(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
