"""The scaling laws of a study's losses: parameters, intervals, a backtest and sensitivity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.errors import StudyError
from jaxgen.laws import Fit, LawError, Table
from jaxgen.laws.repeats import ONCE, epochs_of
from jaxgen.studies.analyses.base import (
    LABELS,
    Analysis,
    Tree,
    color_of,
    figure_name,
    ladder_name,
    mark_of,
    scale_axis,
    shade_of,
    warned_title,
)
from jaxgen.studies.analyses.law_checks import hold_out, show_holdout, show_variations, vary
from jaxgen.studies.analyses.law_remarks import remarks
from jaxgen.studies.formatting import between, count, fixed, number, percent
from jaxgen.studies.law_selection import LawChoice, select_law
from jaxgen.studies.plots import (
    Axis,
    Block,
    DataTable,
    Figure,
    Plot,
    Sentence,
    Series,
    line,
    menu_of,
    points,
)
from jaxgen.studies.study_runs import StudyRun, group_by_ladder, table_of

LEVEL = 0.95
CURVE_POINTS = 40
REACH = 3.0
"""Times the largest scale: how far a curve is drawn."""
METHOD = (
    "Laws are fitted to the held-out loss of finished runs by minimising the Huber loss of the log "
    "residuals from many starting points. Standard errors and intervals come from 200 bootstrap "
    "resamples of the runs. In the backtest, a law is fitted to the runs up to some compute and "
    "predicts the larger ones, for several such cut-offs. Runs of different training mixtures are "
    "never fitted together, nor are dense models and mixtures of experts. Sizes are active "
    "parameters. Runs that were initialised from another run are left out, because their FLOPs and "
    "tokens are not all that made them."
)


def analyse_laws(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Fits the law of the mean held-out loss and of every task's loss, for each ladder.

    Returns:
      For each: "task" (None: the mean), "mixture", "kind", "runs" (how many); and "why_not", or
      "formula", "why", "warnings" (what the runs cannot tell), "axis" (of the plot), "parameters"
      (value, standard error, 95 % interval), "points", "curves", "r_squared", "noise", "search",
      "holdout" and "sensitivity" (of the mean alone).
    """
    found = []
    for ladder, mine in group_by_ladder(runs).items():
        for task in (None, *_tasks(mine)):
            head = {"task": task, **ladder._asdict(), "runs": len(mine)}
            try:
                found.append(head | _law(table_of(mine, task), is_main=task is None))
            except (StudyError, LawError) as error:
                found.append(head | {"why_not": str(error)})
            if task is None and "why_not" in found[-1]:
                break  # The tasks lack the same.
    return found


def _tasks(runs: Sequence[StudyRun]) -> list[str]:
    """Returns the tasks whose held-out loss every run has."""
    common = sorted(set.intersection(*({*run.losses} for run in runs)))
    return common if len(common) > 1 else []


def _law(table: Table, is_main: bool) -> dict[str, Any]:
    choice = select_law(table)
    fit = choice.fit(table)
    errors, intervals = fit.standard_errors, fit.intervals(LEVEL)
    axis = choice.axis or "flops"
    fitted = fit.law.values(fit.columns, fit.vector)
    tree: dict[str, Any] = {
        "formula": choice.formula,
        "why": " ".join([choice.why, *remarks(fit, table)]),
        "warnings": fit.warnings,
        "axis": axis,
        "level": LEVEL,
        "parameters": [
            {
                "name": name,
                "value": value,
                "standard_error": errors[name],
                "interval": intervals[name],
                "is_fixed": errors[name] == 0,
            }
            for name, value in fit.parameters.items()
        ],
        "r_squared": fit.r_squared,
        "noise": fit.noise,
        "search": fit.search,
        "points": [
            {
                "run": str(name),
                "x": table.column(axis)[row],
                "parameters": table.parameters[row],
                "tokens": table.tokens[row],
                "unique_tokens": table.columns.get("unique_tokens", table.tokens)[row],
                "flops": table.flops[row],
                "loss": table.loss[row],
                "fitted": fitted[row],
            }
            for row, name in enumerate(table.runs if table.runs is not None else [])
        ],
        "curves": _curves(choice, fit, table),
    }
    if is_main:
        tree |= {
            "holdout": hold_out(choice, table),
            "sensitivity": vary(choice, table, fit),
        }
    return tree


def _curves(choice: LawChoice, fit: Fit, table: Table) -> list[dict[str, Any]]:
    """Returns the lines of the plot.

    A law of size and tokens has one for each size, on data seen once; a law of repeated data has
    also one for each size and number of unique tokens.
    """
    if choice.axis:
        x = table.column(choice.axis)
        points = np.geomspace(x.min(), REACH * x.max(), CURVE_POINTS)
        return [_curve("the law", points, fit, {choice.axis: points})]
    found = []
    for size in np.unique(table.parameters):
        mine = table.parameters == size
        per_token = float(np.median(table.flops[mine] / table.tokens[mine]))
        pools = _pools(table.select(mine)) if "unique_tokens" in fit.law.inputs else []
        for unique in (None, *pools):
            first = table.tokens.min() if unique is None else unique
            tokens = np.geomspace(first, REACH * table.tokens.max(), CURVE_POINTS)
            columns = {"parameters": np.full(CURVE_POINTS, size), "tokens": tokens}
            columns["unique_tokens"] = tokens if unique is None else np.full(CURVE_POINTS, unique)
            of_data = "" if unique is None else f", {unique:.3g} unique tokens, repeated"
            label = f"{size:.3g} parameters{of_data}"
            curve = _curve(label, per_token * tokens, fit, columns)
            found.append(curve | {"parameters": size, "unique_tokens": unique})
    return found


def _pools(table: Table) -> list[float]:
    """Returns the numbers of unique tokens of runs that repeat data, to three digits."""
    is_repeated = epochs_of(table) > ONCE
    unique = table.column("unique_tokens")[is_repeated]
    return sorted({float(f"{one:.3g}") for one in unique})


def _curve(label: str, x: np.ndarray, fit: Fit, columns: dict[str, np.ndarray]) -> dict[str, Any]:
    band = fit.predict(columns, level=LEVEL)
    return {"label": label, "x": x, "y": band.values, "low": band.lower, "high": band.upper}


def _present(tree: Tree) -> Sequence[Block]:
    blocks: list[Block] = []
    options: dict[str, Sequence[Block]] = {}
    for law in tree["laws"]:
        name = f"{law['task'] or 'mean over tasks'}, {ladder_name(tree, law)}"
        if "why_not" in law:
            of = "the mean loss" if law["task"] is None else law["task"]
            text = f"No law of {of} for {ladder_name(tree, law)}: {law['why_not']}"
            blocks.append(Sentence(text, "soft"))
        else:
            options[name] = _law_blocks(tree, law)
    if options:
        text = (
            "The curve is the fitted law with its 95% interval, extrapolated to three times the "
            "largest scale; each point is a run. Nothing beyond the points was measured."
        )
        blocks = [Sentence(text), *blocks]
    return [*blocks, *menu_of("Loss", options)]


def _law_blocks(tree: Tree, law: dict[str, Any]) -> Sequence[Block]:
    runs, axis = law["points"], law["axis"]
    has_repeats = any(run["unique_tokens"] < run["tokens"] for run in runs)
    blocks: list[Block] = [_figure(tree, law, has_repeats)]
    if any(curve.get("unique_tokens") for curve in law["curves"]):
        text = (
            "Solid lines: a model size trained on data that it sees once. Dashed lines branch off "
            "where the data begin to repeat; point at one to see its number of unique tokens."
        )
        blocks.append(Sentence(text, "soft"))
    summary = (
        f"{law['why']} {law['runs']} runs; R² = {number(law['r_squared'], 4)}; runs scatter about "
        f"the law by {percent(law['noise'])} (one standard deviation)."
    )
    parameters = [
        (p["name"], number(p["value"], 4), number(p["standard_error"], 2), between(p["interval"]))
        for p in law["parameters"]
    ]
    extra = ("parameters", "tokens", "unique tokens", "epochs") if has_repeats else ()
    rows = [
        (p["run"], _scale(axis, p["x"]), *(_repeats(p) if has_repeats else ()),
         fixed(p["loss"], 4), fixed(p["fitted"], 4), f"{100 * (p['loss'] / p['fitted'] - 1):.2f}%")
        for p in runs
    ]  # fmt: skip
    columns = ("run", LABELS[axis], *extra, "loss", "fitted", "residual")
    return [
        *blocks,
        Sentence(law["formula"], "formula"),
        Sentence(summary),
        *(Sentence(text, "bad") for text in law["warnings"]),
        DataTable(("parameter", "value", "standard error", "95% interval"), parameters),
        DataTable(columns, rows, f"The {len(runs)} runs that it is fitted to"),
        *(show_holdout(law["holdout"]) if "holdout" in law else ()),
        *(show_variations(law["sensitivity"]) if "sensitivity" in law else ()),
    ]


def _scale(axis: str, value: float) -> str:
    return number(value) if axis == "flops" else count(value)


def _repeats(point: dict[str, Any]) -> tuple[str, ...]:
    """Returns a run's parameters, tokens, unique tokens, and epochs averaged over its tasks."""
    counts = (count(point[name]) for name in ("parameters", "tokens", "unique_tokens"))
    return (*counts, number(point["tokens"] / point["unique_tokens"]))


def _figure(tree: Tree, law: dict[str, Any], has_repeats: bool) -> Figure:
    color, curves, runs = color_of(law["kind"]), law["curves"], law["points"]
    sizes = list(dict.fromkeys(curve.get("parameters") for curve in curves))
    lines = [
        line(
            curve, len(curves) == 1, color=color, shade=shade_of(curve.get("parameters"), sizes),
            is_open=bool(curve.get("unique_tokens")), tips=[curve["label"]],
        )
        for curve in curves
    ]  # fmt: skip

    def tip(run: dict[str, Any]) -> str:
        size, tokens, unique, epochs = _repeats(run)
        repeats = f", {unique} of them unique: {epochs} epochs" if has_repeats else ""
        losses = f"loss {number(run['loss'], 4)}, fitted {number(run['fitted'], 4)}"
        return f"{run['run']}\n{losses}\n{size} parameters, {tokens} tokens{repeats}"

    measured = points(mark_of(law["kind"]), runs, "x", "loss", tip, color=color)
    y_axis = Axis(LABELS["loss"], "log")
    series = (*lines, measured, *_predictions(tree, law))
    plot = Plot(scale_axis(law["axis"]), y_axis, series, warned_title(law["warnings"]))
    return Figure((plot,), figure_name(tree, "law", law))


def _predictions(tree: Tree, law: dict[str, Any]) -> list[Series]:
    """Returns the pre-registered predictions of the law's ladder, with intervals of one run."""
    found = []
    prediction = tree.get("prediction")
    for predicted in prediction["registered"]["predictions"] if prediction else ():
        rung, loss = predicted["held_out"], predicted["loss"]
        active, total = rung["parameters"]["active"], rung["parameters"]["total"]
        kind = "sparse" if active != total else "dense"
        if (law["task"], law["mixture"], law["kind"]) != (None, rung["mixture"], kind):
            continue
        low, high = loss["new_run"]
        tip = (
            f"pre-registered prediction of {rung['name']}\n"
            f"{number(loss['value'], 4)}; one run: {between(loss['new_run'], 4)}"
        )
        x = active if law["axis"] == "parameters" else rung["flops"]
        label = "" if found else "pre-registered prediction"
        look = {"color": "accent", "is_open": True, "label": label, "tips": [tip]}
        found.append(Series("diamond", [x], [loss["value"]], [low], [high], **look))
    return found


LAWS = Analysis("laws", "Scaling laws of the held-out loss", "Laws", analyse_laws, _present, METHOD)
