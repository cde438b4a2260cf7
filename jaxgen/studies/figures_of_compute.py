"""What figures of a budget's best model, and of mixtures of experts, show; and what all share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LABELS = {
    "parameters": "active parameters",
    "flops": "FLOPs",
    "tokens": "tokens",
    "loss": "held-out loss (nats a token)",
}
DENSE, SPARSE = "#1f63c4", "#c2410c"
STYLES = ("-", "--", ":", "-.")


def label_losses(plot: Any, shown: Sequence[float]) -> None:
    """A logarithmic axis about the losses shown, with round numbers where it is short."""
    from matplotlib.ticker import (  # pyright: ignore[reportMissingImports]
        MaxNLocator,
        NullFormatter,
        ScalarFormatter,
    )

    plot.set_ylim(0.95 * min(shown), 1.05 * max(shown))
    if max(shown) < 10 * min(shown):
        plot.yaxis.set_major_locator(MaxNLocator(5))
        plot.yaxis.set_major_formatter(ScalarFormatter())
        plot.yaxis.set_minor_formatter(NullFormatter())


def paint_allocation(axes: Sequence[Any], found: Mapping[str, Any]) -> None:
    """Loss against parameters at each budget; N* against compute."""
    colour = DENSE if found["kind"] == "dense" else SPARSE
    profiles, sizes = axes
    losses = []
    for place, budget in enumerate(found["budgets"]):
        shade = 0.35 + 0.65 * (place + 1) / len(found["budgets"])
        points = budget["points"]
        losses += [p["loss"] for p in points]
        curve = budget["curve"]
        profiles.plot(curve["x"], curve["y"], color=colour, alpha=shade, linewidth=1.4)
        profiles.scatter(
            [p["parameters"] for p in points], [p["loss"] for p in points],
            s=12, color=colour, alpha=shade, label=f"{budget['flops']:.2g}",
        )  # fmt: skip
        if not budget["dropped"]:
            profiles.plot(budget["parameters"], budget["loss"], "D", color="black", markersize=4)
            sizes.plot(budget["flops"], budget["parameters"], "D", color="black", markersize=4)
    profiles.set(xscale="log", yscale="log", xlabel=LABELS["parameters"], ylabel=LABELS["loss"])
    if losses:
        label_losses(profiles, losses)
        profiles.legend(title="FLOPs", fontsize=6, title_fontsize=6)
    fitted = [one for one in found["approaches"] if "why_not" not in one]
    for style, one in zip(STYLES, fitted, strict=False):
        line = one["line"]
        label = f"{one['name']}: {one['exponent']:.2f}"
        sizes.plot(line["x"], line["y"], style, color=colour, linewidth=1.4, label=label)
        if one is fitted[0] or one["approach"] == 3:
            sizes.fill_between(line["x"], line["low"], line["high"], color=colour, alpha=0.12, lw=0)
    sizes.set(xscale="log", yscale="log", xlabel=LABELS["flops"], ylabel="best size, N*")
    sizes.legend(title="exponent of N*", fontsize=6, title_fontsize=6)


def paint_comparison(axes: Sequence[Any], found: Mapping[str, Any]) -> None:
    """The dense law and the mixtures of experts; their compute multipliers."""
    losses, multipliers = axes
    curve, points, rungs = found["curve"], found["points"], found["rungs"]
    losses.plot(curve["x"], curve["y"], color=DENSE, linewidth=1.4)
    losses.fill_between(curve["x"], curve["low"], curve["high"], color=DENSE, alpha=0.15, lw=0)
    losses.scatter([p["flops"] for p in points], [p["loss"] for p in points], s=12, color=DENSE)
    sparse = [(rung["flops"], run["loss"]) for rung in rungs for run in rung["by_run"]]
    losses.scatter(*zip(*sparse, strict=True), s=12, marker="s", color=SPARSE)
    losses.set(xscale="log", yscale="log", xlabel=LABELS["flops"], ylabel=LABELS["loss"])
    losses.set_title(found["formula"])
    shown = [p["loss"] for p in points] + [loss for _, loss in sparse]
    label_losses(losses, [*shown, min(curve["y"])])
    told = [rung for rung in rungs if "why_not" not in rung["multiplier"]]
    highest = max(
        (bound for rung in told for bound in rung["multiplier"]["interval"] if bound), default=2
    )
    for rung in told:
        flops, one = rung["flops"], rung["multiplier"]
        low, high = one["interval"]
        # An open interval goes on beyond the axis.
        high = 10 * highest if high is None else high
        multipliers.plot([flops, flops], [low, high], color=SPARSE, linewidth=1.2)
        multipliers.plot(flops, one["value"], "s", color=SPARSE, markersize=4)
    multipliers.axhline(1.0, color="grey", linewidth=0.8)
    multipliers.set(xscale="log", xlabel=LABELS["flops"], ylabel="compute multiplier")
    multipliers.set_ylim(0, 1.1 * max(1.0, highest))
