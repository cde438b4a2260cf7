"""The training loss of every run against the compute that it has used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxgen.runs.run_directory import read_metrics
from jaxgen.studies.analyses.base import (
    KINDS,
    Analysis,
    Tree,
    color_of,
    figure_name,
    scale_axis,
    shade_of,
)
from jaxgen.studies.formatting import count
from jaxgen.studies.plots import Axis, Block, Figure, Plot, Sentence, line, menu_of
from jaxgen.studies.study_runs import StudyRun

CURVE_POINTS = 200
UNITS = {"dense": "parameters", "sparse": "active parameters"}
MOST_LABELS = 8
"""Sizes, up to which the legend names each; else the smallest and the largest."""


def analyse_training(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Returns of each run its name, "flops" and "loss", thinned to at most CURVE_POINTS points."""
    found = []
    for run in runs:
        if run.has_no_loss:
            continue  # What is minimised there is no loss of text.
        rows = read_metrics(run.directory.metrics_file)
        rows = [row for row in rows if row["loss"] is not None]
        every = max(1, -(-len(rows) // CURVE_POINTS))
        rows = rows[: len(rows) - 1 : every] + rows[-1:]
        flops = [row["tokens"] * run.record["flops_per_token"] for row in rows]
        found.append({"run": run.name, "flops": flops, "loss": [row["loss"] for row in rows]})
    return found


def _present(tree: Tree) -> Sequence[Block]:
    drawn = {one["run"] for one in tree["training"]}
    mixtures = dict.fromkeys(run["mixture"] for run in tree["runs"] if run["name"] in drawn)
    text = Sentence(
        "Training loss over the whole mixture against the floating-point operations of the matrix "
        "products so far. A paler line is a smaller model; mixtures of experts are orange."
    )
    figures = {mixture: [_figure(tree, mixture)] for mixture in mixtures}
    return [text, *menu_of("Trained on", figures)]


def _figure(tree: Tree, mixture: str) -> Figure:
    curves = {one["run"]: {"x": one["flops"], "y": one["loss"]} for one in tree["training"]}
    runs = [run for run in tree["runs"] if run["mixture"] == mixture and run["name"] in curves]
    series = []
    for kind in KINDS:
        mine = [run for run in runs if run["is_sparse"] == (kind == "sparse")]
        sizes = sorted({run["parameters"]["active"] for run in mine})
        labels = {size: f"{count(size)} {UNITS[kind]}" for size in sizes}
        if len(sizes) > MOST_LABELS:
            labels = {size: labels[size] for size in (sizes[0], sizes[-1])}
        for run in sorted(mine, key=lambda run: run["parameters"]["active"]):
            size = run["parameters"]["active"]
            look = {"color": color_of(kind), "shade": shade_of(size, sizes)}
            label = labels.pop(size, "")
            series.append(line(curves[run["name"]], label=label, tips=[run["name"]], **look))
    plot = Plot(scale_axis("flops"), Axis("training loss (nats/token)", "log"), tuple(series))
    return Figure((plot,), figure_name(tree, "training", {"mixture": mixture}))


TRAINING = Analysis("training", "Loss against compute", "Loss", analyse_training, _present)
