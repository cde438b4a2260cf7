"""The specification of a report: sections of sentences, tables, menus and figures.

An analysis describes what is shown with these classes and knows nothing of how it is painted.
`assets/report.js` paints all of them in the page; `figures.py` paints the figures for a paper.

    Figure((Plot(Axis("FLOPs", "log"), Axis("loss"), (Series("line", flops, loss),)),), "law")
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

Mark = Literal["line", "circle", "square", "diamond"]
Color = Literal["dense", "sparse", "accent", "muted"]
Tone = Literal["", "soft", "good", "bad", "open", "heading", "formula", "code"]
Cell = str | tuple[str, str]
"""Text, or text and its tone."""


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
