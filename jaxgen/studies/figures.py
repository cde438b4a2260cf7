"""A report's figures as files for a paper, each as PDF and as PNG."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.studies.axes import axis_limits, axis_ticks
from jaxgen.studies.plots import CellMap, Figure, MediaGrid, Plot, Section, Series, unfolded

COLORS = {"dense": "#1f63c4", "sparse": "#c2410c", "accent": "#7e22ce", "muted": "#6b7280"}
TONES = {"good": "#15803d", "bad": "#b91c1c"}
MARKERS = {"circle": "o", "square": "s", "diamond": "D"}
DOTS_PER_INCH = 160


def write_figures(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Writes every figure that has a name.

    Args:
      sections: of a report.
      folder: of the files; made if it does not exist.

    Returns:
      The files: NAME.pdf and NAME.png of each figure.
    """
    from matplotlib.figure import Figure as Canvas

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for section in sections:
        for figure in unfolded(section.blocks):
            if not isinstance(figure, Figure | MediaGrid) or not figure.name:
                continue
            if isinstance(figure, MediaGrid):
                canvas = Canvas(
                    figsize=(1.1 * len(figure.columns) + 2.4, 1.1 * len(figure.rows) + 0.4)
                )
                _paint_media(canvas, figure)
            else:
                count = len(figure.panels)
                canvas = Canvas(figsize=(3.6 * count + 0.4, 3.0), layout="constrained")
                row = canvas.subplots(1, count, squeeze=False)[0]
                for axes, panel in zip(row, figure.panels, strict=True):
                    if isinstance(panel, CellMap):
                        _paint_cells(axes, panel)
                    else:
                        _paint(axes, panel)
            for suffix in ("pdf", "png"):
                path = folder / f"{file_name(figure)}.{suffix}"
                # Without the time of writing, equal studies give equal files.
                metadata = {"CreationDate": None} if suffix == "pdf" else None
                canvas.savefig(path, dpi=DOTS_PER_INCH, metadata=metadata)
                written.append(path)
    return written


def file_name(figure: Figure | MediaGrid) -> str:
    """Returns a figure's name with what a file's name cannot have replaced."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in figure.name)


def _paint(axes: Any, plot: Plot) -> None:
    for axis, of, described, limits in (
        (axes.xaxis, "x", plot.x, axis_limits(plot, "x")),
        (axes.yaxis, "y", plot.y, axis_limits(plot, "y")),
    ):
        ticks = axis_ticks(described, limits)
        getattr(axes, f"set_{of}scale")(described.scale)
        getattr(axes, f"set_{of}lim")(*limits)
        axis.set_ticks([value for value, _ in ticks], [label for _, label in ticks])
        axis.set_ticks([], minor=True)
        axis.set_label_text(described.label)
        if described.is_reversed or (of == "y" and described.categories):
            axis.set_inverted(True)
    for series in plot.series:
        _paint_series(axes, series)
    axes.set_title(plot.title, fontsize=9)
    if any(series.label for series in plot.series):
        axes.legend(fontsize=6)


def _paint_series(axes: Any, series: Series) -> None:
    color = _shaded(series)
    x, y, low, high = (_floats(column) for column in (series.x, series.y, series.low, series.high))
    label = series.label or None
    if series.mark == "line":
        style = "--" if series.is_open else "-"
        # A line through a single point would not show.
        marker = "o" if len(x) == 1 else None
        axes.plot(x, y, style, color=color, linewidth=1.4, label=label, marker=marker, markersize=3)
        if len(low) and np.isfinite(low).all():
            axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        return
    if len(low):
        lines = axes.hlines if series.is_horizontal else axes.vlines
        lines(y if series.is_horizontal else x, low, high, color=color, linewidth=1.2)
    axes.scatter(
        x, y, s=14, marker=MARKERS[series.mark], label=label, linewidth=1.0, edgecolor=color,
        facecolor="none" if series.is_open else color,
    )  # fmt: skip


def _paint_cells(axes: Any, cells: CellMap) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    values = np.array([_floats(row) for row in cells.values])
    colors = LinearSegmentedColormap.from_list("cells", ["white", COLORS[cells.color]])
    look = {"cmap": colors, "vmin": 0, "vmax": cells.strongest, "interpolation": "nearest"}
    axes.imshow(values, aspect="auto", **look)
    axes.set_xticks(range(len(cells.columns)), cells.columns)
    axes.tick_params("x", labelrotation=60)
    axes.set(xlabel=cells.x_label, ylabel=cells.y_label)
    axes.set_title(cells.title, fontsize=9)


def _paint_media(canvas: Any, grid: MediaGrid) -> None:
    """Paints the pictures; sounds cannot be."""
    from matplotlib.image import imread

    table = canvas.subplots(len(grid.rows), len(grid.columns), squeeze=False)
    canvas.subplots_adjust(left=0.22, right=0.99, bottom=0.02, top=0.93, wspace=0.05, hspace=0.08)
    for number, (asked, media, tones) in enumerate(
        zip(grid.rows, grid.media, grid.tones, strict=True)
    ):
        for column, (one, tone) in enumerate(zip(media, tones, strict=True)):
            axes = table[number, column]
            axes.set(xticks=[], yticks=[])
            for side in axes.spines.values():
                side.set(color=TONES.get(tone, "white"), linewidth=1.5)
            if one.startswith("data:image/png"):
                axes.imshow(imread(io.BytesIO(base64.b64decode(one.partition(",")[2]))))
            if number == 0:
                axes.set_title(grid.columns[column], fontsize=7)
            if column == 0:
                axes.set_ylabel(
                    textwrap.fill(asked, 24), fontsize=7, rotation=0, ha="right", va="center"
                )


def _floats(column: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if one is None else one for one in column], float)


def _shaded(series: Series) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    share = 0.35 + 0.65 * series.shade
    return tuple(share * part + 1 - share for part in to_rgb(COLORS[series.color]))
