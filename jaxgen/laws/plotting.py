"""Results as figures of matplotlib, which is loaded when a figure is asked for.

Every figure carries the warnings of its result below it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgen.laws.errors import LawError

if TYPE_CHECKING:
    from jaxgen.laws.envelope import Envelope
    from jaxgen.laws.fit import Fit
    from jaxgen.laws.frontier import Frontier
    from jaxgen.laws.isoflop import IsoFlop

CURVE_POINTS = 80
MOST_CURVES = 12
"""Sizes whose curves are drawn; of more, some evenly."""
REACH = 3.0
"""Times the largest scale: how far a law is drawn."""
LABELS = {
    "parameters": "parameters N",
    "tokens": "tokens D",
    "flops": "FLOPs C",
    "loss": "loss",
}
WARNED = "#b00020"


def figure_of_fit(fit: Fit, level: float) -> Any:
    """Returns points and law over the inputs, and N*(C) where the law has best models."""
    frontier = _frontier(fit)
    figure, panels = _canvas(2 if frontier is not None else 1, f"{fit.name}: {fit.law.formula}")
    axes = panels[0]
    inputs = fit.law.inputs
    if len(inputs) == 1:
        _one_axis(axes, fit, inputs[0], level)
    elif set(inputs) == {"parameters", "tokens"}:
        _by_size(axes, fit)
    else:
        _predicted(axes, fit)
    if frontier is not None:
        _line_of_sizes(panels[1], frontier, level)
        if frontier.best_loss is not None and set(inputs) == {"parameters", "tokens"}:
            x = np.geomspace(frontier.largest_flops / 1e4, REACH * frontier.largest_flops)
            axes.plot(x, frontier.best_loss.at(x), "k--", linewidth=1, label="L*(C)")
            axes.legend(fontsize=7)
    return _finish(figure, fit.warnings)


def figure_of_isoflop(fit: IsoFlop, level: float) -> Any:
    """Returns loss over size at each budget, the minima, and the line through them."""
    figure, (left, right) = _canvas(2, fit.frontier.name)
    shades = _shades(len(fit.budgets))
    for budget, shade in zip(fit.budgets, shades, strict=True):
        left.plot(budget.sizes, budget.losses, "o", color=shade, markersize=3)
        if len(budget.sizes) > 2 and fit.curve == "quadratic":
            x = np.geomspace(budget.sizes.min(), budget.sizes.max(), CURVE_POINTS)
            curve = np.polynomial.Polynomial.fit(np.log(budget.sizes), np.log(budget.losses), 2)
            left.plot(x, np.exp(curve(np.log(x))), color=shade, linewidth=1)
    kept = [budget for budget in fit.budgets if not budget.dropped]
    sizes, losses, flops = (
        [getattr(budget, of) for budget in kept] for of in ("parameters", "loss", "flops")
    )
    left.plot(sizes, losses, "kD", markersize=4, fillstyle="none", label="minimum")
    left.set(xscale="log", yscale="log", xlabel=LABELS["parameters"], ylabel=LABELS["loss"])
    _plain_ticks(left)
    left.legend(fontsize=7)
    errors = np.nan_to_num([budget.standard_error for budget in kept])
    spread = np.array(sizes) * np.array([1 - np.exp(-errors), np.exp(errors) - 1])
    right.errorbar(flops, sizes, yerr=spread, fmt="kD", markersize=4, fillstyle="none")
    _line_of_sizes(right, fit.frontier, level)
    return _finish(figure, (*fit.warnings,))


def figure_of_envelope(fit: Envelope, level: float) -> Any:
    """Returns the envelope's loss and best sizes over compute, and their line."""
    figure, (left, right) = _canvas(2, fit.frontier.name)
    left.plot(fit.flops, fit.loss, "k.", markersize=3)
    if fit.frontier.best_loss is not None:
        left.plot(fit.flops, fit.frontier.best_loss.at(fit.flops), linewidth=1, label="L*(C)")
        left.legend(fontsize=7)
    left.set(xscale="log", yscale="log", xlabel=LABELS["flops"], ylabel=LABELS["loss"])
    _plain_ticks(left)
    right.plot(fit.flops, fit.parameters, "k.", markersize=3)
    _line_of_sizes(right, fit.frontier, level)
    return _finish(figure, fit.warnings)


def _frontier(fit: Fit) -> Frontier | None:
    if fit.law.frontier is None:
        return None
    try:
        return fit.law.frontier(fit)
    except LawError:
        return None


def _one_axis(axes: Any, fit: Fit, name: str, level: float) -> None:
    x = fit.columns[name]
    if name == "loss":
        wide = np.linspace(max(x.min(), 1e-9), x.max(), CURVE_POINTS)
    else:
        wide = np.geomspace(x.min(), REACH * x.max(), CURVE_POINTS)
    law = fit.predict({name: wide}, level=level)
    axes.plot(x, fit.target, "o", markersize=3)
    axes.plot(wide, law.values, linewidth=1.2)
    if len(fit.draws):
        axes.fill_between(wide, law.lower, law.upper, alpha=0.2, linewidth=0)
    scale = "log" if np.all(fit.target > 0) and name != "loss" else "linear"
    axes.set(xscale=scale, yscale=scale, xlabel=LABELS.get(name, name), ylabel=_target(fit))
    if scale == "log":
        _plain_ticks(axes)


def _by_size(axes: Any, fit: Fit) -> None:
    """Draws loss over compute, with a curve for each size."""
    flops = fit.columns.get("flops", 6 * fit.columns["parameters"] * fit.columns["tokens"])
    sizes = np.unique(fit.columns["parameters"])
    chosen = sizes[np.unique(np.linspace(0, len(sizes) - 1, MOST_CURVES).astype(int))]
    shades = _shades(len(sizes))
    for size, shade in zip(sizes, shades, strict=True):
        mine = fit.columns["parameters"] == size
        axes.plot(flops[mine], fit.target[mine], "o", color=shade, markersize=3)
        if size in chosen:
            tokens = fit.columns["tokens"][mine]
            wide = np.geomspace(tokens.min(), REACH * tokens.max(), CURVE_POINTS)
            cost = float(np.median(flops[mine] / tokens))
            law = fit.law.values(
                {"parameters": np.full(CURVE_POINTS, size), "tokens": wide}, fit.vector
            )
            axes.plot(cost * wide, law, color=shade, linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel=LABELS["flops"], ylabel=_target(fit))
    _plain_ticks(axes)


def _predicted(axes: Any, fit: Fit) -> None:
    """Draws the target over the fitted value, for laws of more inputs than a plot has axes."""
    fitted = fit.law.values(fit.columns, fit.vector)
    axes.plot(fitted, fit.target, "o", markersize=3)
    ends = [min(fitted.min(), fit.target.min()), max(fitted.max(), fit.target.max())]
    axes.plot(ends, ends, linewidth=1)
    axes.set(xlabel=f"fitted {_target(fit)}", ylabel=_target(fit))


def _target(fit: Fit) -> str:
    return LABELS["loss"] if fit.law.formula.startswith("L ") else "value"


def _line_of_sizes(axes: Any, frontier: Frontier, level: float) -> None:
    x = np.geomspace(frontier.largest_flops / 1e4, 10 * frontier.largest_flops, CURVE_POINTS)
    if axes.lines:
        known = np.concatenate([np.asarray(line.get_xdata(), float) for line in axes.lines])
        x = np.geomspace(known.min(), 10 * frontier.largest_flops, CURVE_POINTS)
    best = frontier.optimum(x, level)
    label = f"N* = {frontier.coefficient:.3g} C^{frontier.exponent:.3f}"
    axes.plot(x, best.parameters, linewidth=1.2, label=label)
    if len(frontier.exponent_draws):
        low, high = best.parameters_interval.T
        axes.fill_between(x, low, high, alpha=0.2, linewidth=0)
    axes.set(xscale="log", yscale="log", xlabel=LABELS["flops"], ylabel="best size N*")
    axes.legend(fontsize=7)


def _shades(count: int) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0, 0.9, max(count, 1)))


def _canvas(count: int, title: str) -> tuple[Any, Sequence[Any]]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LawError("a plot needs matplotlib: pip install matplotlib.") from error
    figure = Figure(figsize=(4.6 * count, 4.2), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    figure.suptitle("\n".join(textwrap.wrap(title, 56 * count)), fontsize=9)
    return figure, axes


def _plain_ticks(axes: Any) -> None:
    """Writes the ticks of a short logarithmic axis as numbers, not as powers of ten."""
    for of in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        of(lambda value, _: f"{value:.3g}")


def _finish(figure: Any, warnings: Sequence[str]) -> Any:
    if warnings:
        width = int(18 * figure.get_figwidth())
        lines = [line for text in warnings for line in textwrap.wrap(f"! {text}", width)]
        figure.set_figheight(figure.get_figheight() + 0.16 * len(lines))
        figure.supxlabel("\n".join(lines), fontsize=7, color=WARNED, x=0.01, ha="left")
    return figure
