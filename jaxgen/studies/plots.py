"""The specification of a report: sections of sentences, tables, menus and figures.

An analysis describes what is shown with these classes and knows nothing of how it is painted.
`assets/report.js` paints all of them in the page; `figures.py` paints the figures for a paper.

    Figure((Plot(Axis("FLOPs", "log"), Axis("loss"), (Series("line", flops, loss),)),), "law")
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from jaxgen.studies.formatting import count, number

Mark = Literal["line", "circle", "square", "diamond"]
Color = Literal["dense", "sparse", "accent", "muted"]
Tone = Literal["", "soft", "good", "bad", "open", "heading", "formula", "code"]
Cell = str | tuple[str, str]
"""Text, or text and its tone."""
LARGEST = 1e100
"""The largest number that an axis shows."""
MARGIN = 0.06
"""Share of an axis that is left free on each side of the data."""
MOST_TICKS = 6
DIGITS = 6
"""Significant digits of coordinates; a screen shows fewer."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis of a plot.

    Attributes:
      label: its title, with the unit.
      scale: "linear" or "log".
      limits: its ends; None: those of the data, with a margin.
      is_reversed: whether it falls from left to right.
      is_count: whether ticks read 1M rather than 1e6.
      categories: names of the values 0, 1, ..., in place of numbers; first on top.
    """

    label: str
    scale: Literal["linear", "log"] = "linear"
    limits: tuple[float, float] | None = None
    is_reversed: bool = False
    is_count: bool = False
    categories: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Series:
    """Points, or a line, with intervals.

    Attributes:
      mark: how it is drawn.
      x: [points] coordinates.
      y: [points]; None where there is no value.
      low: [points] lower ends of the intervals: whiskers of points, the band of a line; or empty.
      high: [points] upper ends; or empty.
      is_horizontal: whether intervals are of x rather than y; points alone.
      color: what it is of.
      shade: from 0, pale, to 1, full.
      is_open: whether a point is hollow, or a line dashed.
      label: in the legend; "" leaves it out.
      tips: lines of text that pointing at a mark shows: one text for each point, or one for all.
    """

    mark: Mark
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    is_horizontal: bool = False
    color: Color = "dense"
    shade: float = 1.0
    is_open: bool = False
    label: str = ""
    tips: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Plot:
    """Series over two axes.

    Attributes:
      x: the horizontal axis.
      y: the vertical axis.
      series: drawn in this order.
      title: above it.
    """

    x: Axis
    y: Axis
    series: tuple[Series, ...]
    title: str = ""


@dataclasses.dataclass(frozen=True)
class CellMap:
    """A heat map.

    Attributes:
      title: above it.
      x_label: what a column is.
      y_label: what a row is.
      columns: names.
      rows: names, first on top.
      values: [rows][columns] from 0 to 1; None: there is none.
      column_notes: shown when a cell of the column is pointed at.
      row_notes: shown when a cell of the row is pointed at.
      color: of the strongest.
      strongest: the value that has the full color.
    """

    title: str
    x_label: str
    y_label: str
    columns: Sequence[str]
    rows: Sequence[str]
    values: Sequence[Sequence[float | None]]
    column_notes: Sequence[str]
    row_notes: Sequence[str]
    color: Color = "dense"
    strongest: float = 1.0


@dataclasses.dataclass(frozen=True)
class Figure:
    """Plots or heat maps side by side.

    Attributes:
      panels: from left to right.
      name: of its file among a paper's figures; "": it is for the page alone.
    """

    panels: tuple[Plot | CellMap, ...]
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """Figures side by side in the page; in a paper each is a file."""

    figures: Sequence[Figure]


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A paragraph.

    Attributes:
      text: of it.
      tone: its look.
      badge: a word set off before it.
      badge_tone: the look of that.
    """

    text: str
    tone: Tone = ""
    badge: str = ""
    badge_tone: Tone = ""


@dataclasses.dataclass(frozen=True)
class DataTable:
    """A table; with a title it is folded away under it. Cells are text, or text with a tone."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    text_columns: tuple[int, ...] = (0,)


@dataclasses.dataclass(frozen=True)
class MediaGrid:
    """Pictures and sounds in a table: a row for each thing that was asked for.

    Attributes:
      columns: what made them.
      rows: what was asked for, such as a caption.
      media: [rows][columns] data URIs of PNG or WAV files; "" leaves a cell empty.
      tones: [rows][columns] "good", "bad" or "".
      name: of its file among a paper's figures; "": it is for the page alone.
    """

    columns: Sequence[str]
    rows: Sequence[str]
    media: Sequence[Sequence[str]]
    tones: Sequence[Sequence[Tone]]
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Fold:
    """Blocks that are folded away under a title."""

    title: str
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True)
class Menu:
    """Blocks of which one list is shown at a time, by a name chosen from a menu."""

    label: str
    options: Mapping[str, Sequence[Block]]


Block = Figure | Row | Sentence | Bullets | DataTable | MediaGrid | Fold | Menu


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report with a heading and a link to it."""

    key: str
    title: str
    link: str
    blocks: Sequence[Block]


def points(
    mark: Mark,
    rows: Sequence[Mapping[str, Any]],
    x: str,
    y: str,
    tip: Callable[[Any], str] | None = None,
    **look: Any,
) -> Series:
    """Returns the points of mappings, at their entries `x` and `y`, each with its tip."""
    tips = [tip(row) for row in rows] if tip else ()
    return Series(mark, [row[x] for row in rows], [row[y] for row in rows], tips=tips, **look)


def line(curve: Mapping[str, Any], has_band: bool = False, **look: Any) -> Series:
    """Returns the line of a mapping's "x" and "y", with the band from "low" to "high" or not."""
    band = {"low": curve["low"], "high": curve["high"]} if has_band else {}
    return Series("line", curve["x"], curve["y"], **band, **look)


def figures_in(blocks: Sequence[Block]) -> Iterator[Figure]:
    """Yields every figure of blocks, folded ones and those of menus too."""
    return (block for block in unfolded(blocks) if isinstance(block, Figure))


def unfolded(blocks: Sequence[Block]) -> Iterator[Block]:
    """Yields every block that holds no others, with those of rows, folds and menus in place."""
    for block in blocks:
        if isinstance(block, Row):
            yield from block.figures
        elif isinstance(block, Fold):
            yield from unfolded(block.blocks)
        elif isinstance(block, Menu):
            for chosen in block.options.values():
                yield from unfolded(chosen)
        else:
            yield block


def menu_of(label: str, options: Mapping[str, Sequence[Block]]) -> Sequence[Block]:
    """Returns a menu; where there is nothing to choose, the blocks alone."""
    return [Menu(label, options)] if len(options) > 1 else next(iter(options.values()), [])


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
