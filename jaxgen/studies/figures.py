"""The report's figures as files, for a paper: of one analysis, each as PDF and as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.emergence import PER_TOKEN
from jaxgen.studies.figures_of_compute import (
    DENSE,
    LABELS,
    SPARSE,
    label_losses,
    paint_allocation,
    paint_comparison,
)

FORECAST = "#b45309"
RESOLUTION = 160
"""Dots an inch, of a PNG."""


def write_figures(analysis: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes every figure that the analysis has data for.

    Args:
      analysis: see `analysis.analyse`.
      folder: made if it is not there.

    Returns:
      The files: law-TASK, allocation, comparison, finetuning-TASK, prediction-RUNG, ability-TASK
      and instances-TASK, each .pdf and .png; with the mixture where the study has several.
    """
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    written = []

    def save(name: str, panels: int, paint: Any, *given: Any) -> None:
        figure = Figure(figsize=(3.6 * panels + 0.4, 3.0), layout="constrained")
        paint(figure.subplots(1, panels, squeeze=False)[0], *given)
        for suffix in ("pdf", "png"):
            path = folder / f"{name}.{suffix}"
            # No time of writing: equal studies give equal files.
            metadata = {"CreationDate": None} if suffix == "pdf" else None
            figure.savefig(path, dpi=RESOLUTION, metadata=metadata)
            written.append(path)

    is_mixed = len({run["mixture"] for run in analysis["runs"]}) > 1

    def name(what: str, of: Mapping[str, Any]) -> str:
        parts = [what, of["mixture"] if is_mixed else ""]
        parts += [of["task"] or "mean"] if "task" in of else []
        parts.append("sparse" if of.get("kind") == "sparse" else "")
        return _safe("-".join(part for part in parts if part))

    for law in analysis["laws"]:
        if "why_not" not in law:
            save(name("law", law), 1, _law, law)
    for allocation in analysis["allocations"]:
        if "why_not" not in allocation:
            save(name("allocation", allocation), 2, paint_allocation, allocation)
    for comparison in analysis["comparisons"]:
        if "why_not" not in comparison:
            tokens = "" if comparison["tokens"] is None else f"-{comparison['tokens']:.3g}"
            is_one = len(analysis["comparisons"]) == 1
            of = name("comparison", comparison) + ("" if is_one else _safe(tokens))
            save(of, 2, paint_comparison, comparison)
    for one in analysis["finetuning"]:
        save(name("finetuning", one), 1, _finetuning, one)
    if prediction := analysis["prediction"]:
        for said, found in zip(
            prediction["registered"]["predictions"], prediction["rungs"], strict=True
        ):
            if found["loss"]:
                rung = said["held_out"]["name"]
                save(_safe(f"prediction-{rung}"), 1, _prediction, rung, found)
    for ability in analysis["abilities"]:
        curves = ability.get("axes", {}).get("parameters", {})
        if "curves" in curves:
            save(name("ability", ability), 3, _ability, ability, curves)
            save(name("instances", ability), 1, _instances, ability["heat_map"])
    return written


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


def _law(axes: Sequence[Any], law: Mapping[str, Any]) -> None:
    (plot,) = axes
    colour = DENSE if law["kind"] == "dense" else SPARSE
    sizes = list(dict.fromkeys(line.get("parameters") for line in law["curves"]))
    for line in law["curves"]:
        shade = 0.35 + 0.65 * (sizes.index(line.get("parameters")) + 1) / len(sizes)
        style = "--" if line.get("unique_tokens") else "-"
        plot.plot(line["x"], line["y"], style, color=colour, alpha=shade, linewidth=1.4)
        if len(law["curves"]) == 1 and None not in line["low"]:
            plot.fill_between(line["x"], line["low"], line["high"], color=colour, alpha=0.15, lw=0)
    points = law["points"]
    plot.scatter([p["x"] for p in points], [p["loss"] for p in points], s=12, color=colour)
    plot.set(xscale="log", yscale="log", xlabel=LABELS[law["axis"]])
    plot.set(ylabel=LABELS["loss"], title=law["formula"])
    label_losses(plot, [p["loss"] for p in points] + [y for c in law["curves"] for y in c["y"]])


def _prediction(axes: Sequence[Any], rung: str, prediction: Mapping[str, Any]) -> None:
    """In units of the predicted value, so that a loss and scores stand in one picture."""
    (plot,) = axes
    rows = {"loss": prediction["loss"], **prediction["scores"]}
    for place, one in enumerate(rows.values()):
        scale = one["predicted"] or 1.0
        low, high = (bound / scale for bound in one["interval"])
        plot.plot([low, high], [place, place], color=FORECAST, linewidth=5, alpha=0.35)
        plot.plot(1.0, place, "|", color=FORECAST, markersize=12)
        runs = [run["actual"] / scale for run in one["by_run"].values()]
        plot.scatter(runs, [place] * len(runs), s=10, color=DENSE, alpha=0.6)
        plot.plot(one["actual"] / scale, place, "D", color=DENSE, markersize=5)
    plot.set_yticks(range(len(rows)), list(rows))
    plot.invert_yaxis()
    plot.set(xlabel="over the predicted value", title=rung)


def _finetuning(axes: Sequence[Any], found: Mapping[str, Any]) -> None:
    (plot,) = axes
    counts = sorted({point["examples"] for point in found["points"]})
    shades = {count: 0.35 + 0.65 * (i + 1) / len(counts) for i, count in enumerate(counts)}
    for count, shade in shades.items():
        points = [point for point in found["points"] if point["examples"] == count]
        loss, score = ([point[of] for point in points] for of in ("loss", "performance"))
        plot.scatter(loss, score, s=12, color=DENSE, alpha=shade, label=f"{count} examples")
    loss, score = ([point[of] for point in found["untuned"]] for of in ("loss", "performance"))
    plot.scatter(loss, score, s=16, marker="s", facecolor="none", color=FORECAST, label="as it is")
    for line in found.get("curves", ()):
        shade = shades.get(line["examples"])
        colour, style = (FORECAST, "--") if shade is None else (DENSE, "-")
        plot.plot(line["x"], line["y"], style, color=colour, alpha=shade, linewidth=1.2)
    highest = max(point["performance"] for point in (*found["points"], *found["untuned"]))
    plot.set_ylim(-0.03 * highest, 1.1 * max(highest, found["chance"] + 0.05))
    plot.invert_xaxis()
    plot.set(xlabel="pre-training loss", ylabel="exact match", title=found["task"])
    plot.legend(fontsize=6)


def _ability(axes: Sequence[Any], ability: Mapping[str, Any], curves: Mapping[str, Any]) -> None:
    colour = DENSE if ability["kind"] == "dense" else SPARSE
    for plot, metric, label in (
        (axes[0], "exact_match", "exact match"),
        (axes[1], PER_TOKEN, "log-probability a token"),
    ):
        points = curves["curves"][metric]
        scale = [point["scale"] for point in points]
        plot.plot(scale, [point["mean"]["value"] for point in points], color=colour)
        if all(point["mean"]["low"] is not None for point in points):
            low, high = ([point["mean"][end] for point in points] for end in ("low", "high"))
            plot.fill_between(scale, low, high, color=colour, alpha=0.15, lw=0)
        runs = [(point["scale"], run["value"]) for point in points for run in point["by_run"]]
        plot.scatter(*zip(*runs, strict=True), s=8, color=colour, alpha=0.6)
        plot.set(xscale="log", xlabel=LABELS["parameters"], ylabel=label)
    success = curves["success"]
    share = np.array([[one["share"][end] for end in ("value", "low", "high")] for one in success])
    errors = np.abs(share[:, 1:] - share[:, :1]).T
    scale = [one["scale"] for one in success]
    axes[2].errorbar(scale, share[:, 0], errors, color=colour, capsize=2, marker="o", markersize=3)
    axes[2].set(xscale="log", xlabel=LABELS["parameters"], ylabel="p(success) over seeds")
    axes[0].set_ylim(-0.03, 1.03)
    axes[2].set_ylim(-0.03, 1.03)
    axes[0].set_title(ability["task"])
    axes[1].set_title(ability["verdict"].get("verdict", ""))


def _instances(axes: Sequence[Any], found: Mapping[str, Any]) -> None:
    (plot,) = axes
    solved = np.array([[np.nan if s is None else s for s in row] for row in found["solved"]])
    plot.imshow(solved, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    plot.set_xticks(range(len(found["scale"])), [f"{scale:.2g}" for scale in found["scale"]])
    plot.tick_params("x", labelrotation=60)
    plot.set(xlabel=LABELS["parameters"], ylabel="instances, first solved on top")
