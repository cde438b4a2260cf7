"""Where the axes of a plot end, and where they have ticks."""

from __future__ import annotations

import math
from typing import Literal

from jaxgen.studies.formatting import count, number
from jaxgen.studies.plots import Axis, Plot

LARGEST = 1e100
"""The largest number that an axis shows."""
MARGIN = 0.06
"""Share of an axis that is left free on each side of the data."""
MOST_TICKS = 6


def axis_limits(plot: Plot, of: Literal["x", "y"]) -> tuple[float, float]:
    """Returns the ends of an axis: those it has, or those of the points, lines and whiskers.

    A band widens an axis too, on either side by at most the range of all else: one that is much
    wider would flatten it.
    """
    axis: Axis = getattr(plot, of)
    if axis.limits is not None:
        return axis.limits
    if axis.categories:
        return -0.5, len(axis.categories) - 0.5
    values: list[float | None] = []
    for series in plot.series:
        values += getattr(series, of)
        if series.mark != "line" and series.is_horizontal == (of == "x"):
            values += [*series.low, *series.high]
    is_log = axis.scale == "log"
    known = [v for v in values if v is not None and math.isfinite(v) and (v > 0 or not is_log)]
    if not known:
        return (1.0, 10.0) if is_log else (0.0, 1.0)
    # Products of what is beyond these are no numbers, and no axis has room for them.
    least, most = (1 / LARGEST, LARGEST) if is_log else (-LARGEST, LARGEST)
    low, high = (min(max(v, least), most) for v in (min(known), max(known)))
    bands = [series for series in plot.series if series.mark == "line" and of == "y"]
    ends = [end for series in bands for end in (*series.low, *series.high) if end is not None]
    ends = [end for end in ends if least <= end <= most]
    lowest, highest = min([low, *ends]), max([high, *ends])
    if is_log:
        low, high = max(lowest, low**2 / high), min(highest, high**2 / low)
        spare = max(1.02, (high / low) ** MARGIN)
        return low / spare, high * spare
    low, high = max(lowest, 2 * low - high), min(highest, 2 * high - low)
    spare = MARGIN * (high - low) or 0.5
    return low - spare, high + spare


def axis_ticks(axis: Axis, limits: tuple[float, float]) -> list[tuple[float, str]]:
    """Returns where an axis has ticks, and their labels: at most about six."""
    if axis.categories:
        return [(float(place), name) for place, name in enumerate(axis.categories)]
    low, high = limits
    values: list[float] = []
    if axis.scale == "log" and high / low >= 5:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            values = [d * 10.0**p for p in powers for d in digits if low <= d * 10.0**p <= high]
            if len(values) <= MOST_TICKS:
                break
        values = values[:: math.ceil(len(values) / MOST_TICKS) if values else 1]
    if len(values) < 2:
        rough = (high - low) / MOST_TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(d * power for d in (1, 2, 5, 10) if d * power >= rough * (1 - 1e-9))
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        values = [step * place for place in range(first, last + 1)]
    show = count if axis.is_count else number
    return [(value, show(value, 4) if value else "0") for value in values]
