"""The abilities of a study's models: curves over scale, seeds, breaks, a verdict, instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.emergence import (
    PER_TOKEN,
    EmergenceError,
    Runs,
    TaskRows,
    average_runs,
    curve,
    curve_shapes,
    fit_trend,
    heat_map,
    seed_modes,
    success_curve,
    verdict,
)
from jaxgen.studies.analyses.ability_plots import present
from jaxgen.studies.analyses.base import Analysis
from jaxgen.studies.scored_answers import ScoredAnswers, emergence_rows
from jaxgen.studies.study_runs import StudyRun, group_by_ladder

AXES = ("parameters", "flops", "tokens", "loss")
METRICS = ("exact_match", "token_accuracy", PER_TOKEN)
METHOD = (
    "Intervals of exact match are Wilson intervals for the number of independent answers that the "
    "spread over seeds amounts to; those of other means are bootstraps over seeds. A verdict asks "
    "three questions of the log-probability per token: is it gradual over scale, do its seeds form "
    "one group as far as exact match tells them apart, and does exact match follow from it by one "
    "mapping for all scales? Seeds are compared within the range in which exact match makes 10 to "
    "90% of its rise, and beyond it count as its ends. At least six scales, four seeds and fifty "
    "instances are needed for a verdict. Breakthroughness and linearity describe a curve and "
    "decide nothing."
)


def analyse_abilities(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Analyses every task with answers, for each ladder.

    Returns:
      For each: "task", "mixture", "kind", "runs"; and "why_not", or "chance", "instances", "axes"
      (axis -> curves with intervals, p(success), modes of seeds, breaks, shapes, or "why_not"),
      "verdict" (on the parameters, or the first axis that tells the rungs apart) and "heat_map".
    """
    found = []
    for ladder, mine in group_by_ladder(runs).items():
        answers = emergence_rows(mine)
        for task, reason in answers.left_out.items():
            found.append({"task": task, **ladder._asdict(), "why_not": f"{reason}."})
        for task, rows in answers.tasks.items():
            head = {"task": task, **ladder._asdict(), "runs": len(answers.by_run[task])}
            found.append(head | _ability(rows, answers, mine))
    return found


def _ability(rows: TaskRows, answers: ScoredAnswers, runs: Sequence[StudyRun]) -> dict[str, Any]:
    scored = [run for run in runs if run.name in answers.by_run[rows.task]]
    names = {(run.rung, str(run.seed)): run.name for run in scored}
    rungs = _rungs(scored)
    axes = {axis: _axis(rows, axis, rungs, names) for axis in AXES}
    apart = [axis for axis in AXES if len(np.unique(rows.scale(axis))) == len(rungs) > 1]
    return {
        "chance": rows.chance,
        "instances": rows.num_instances,
        "axes": axes,
        "verdict": _verdict(rows, apart),
        "heat_map": _heat_map(rows, rungs, names, answers.lines[rows.task]),
    }


def _rungs(runs: Sequence[StudyRun]) -> list[str]:
    """Returns names in the order of a TaskRows' rungs: by compute, then by name."""
    flops: dict[str, list[int]] = {}
    for run in runs:
        flops.setdefault(run.rung, []).append(run.record["flops"])
    return sorted(sorted(flops), key=lambda name: float(np.mean(flops[name])))


def _order(rows: TaskRows, axis: str) -> np.ndarray:
    """Returns [rungs] the order of the rungs by rising size on an axis, as in `average_runs`."""
    return np.argsort(rows.scale(axis) * (-1 if axis == "loss" else 1), kind="stable")


def _axis(
    rows: TaskRows, axis: str, rungs: Sequence[str], names: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    scale = rows.scale(axis)
    levels = len(np.unique(scale))
    if levels < 2:
        what = "rung was trained" if len(scale) < 2 else f"value of {axis} occurs"
        return {"why_not": f"Only one {what}, so there is no curve over {axis}."}
    try:
        runs = average_runs(rows, axis)
    except EmergenceError as error:
        return {"why_not": str(error)}
    order = [rungs[int(place)] for place in _order(rows, axis)]

    def named(points: Sequence[Any]) -> list[dict[str, Any]]:
        return [
            {
                "scale": point.scale,
                "rung": rung,
                "by_run": [
                    {"run": names[rung, seed], "seed": seed, "value": value}
                    for seed, value in point.by_seed
                ],
                "mean": point.mean,
            }
            for point, rung in zip(points, order, strict=True)
        ]

    return {
        "is_apart": levels == len(scale),
        "curves": {metric: named(curve(runs, metric)) for metric in METRICS},
        "success": [
            {"rung": rung, **vars(one)}
            for rung, one in zip(order, success_curve(runs), strict=True)
        ],
        "modes": _modes(runs, order),
        "shapes": [shape for metric in METRICS for shape in curve_shapes(runs, metric)],
        "breaks": _breaks(runs, levels == len(scale)),
    }


def _modes(runs: Runs, order: Sequence[str]) -> dict[str, Any]:
    fewest = int(runs.seeds.min())
    if fewest < 2:
        return {"why_not": "A rung with a single seed shows nothing of how seeds differ."}
    return {
        metric: [
            {"rung": rung, **vars(mode)}
            for rung, mode in zip(order, seed_modes(runs, metric), strict=True)
        ]
        for metric in ("exact_match", PER_TOKEN)
    }


def _breaks(runs: Runs, is_apart: bool) -> dict[str, Any]:
    """Returns by metric how well curves with and without a break predict held-out scales."""
    if not is_apart:
        return {"why_not": f"Several rungs share a value of {runs.axis}."}
    found: dict[str, Any] = {}
    for metric in ("exact_match", PER_TOKEN):
        try:
            trend = fit_trend(runs, metric)
        except EmergenceError as error:
            found[metric] = {"why_not": str(error)}
            continue
        found[metric] = {**vars(trend), "gradual": trend.gradual, "sudden": trend.sudden}
    return found


def _verdict(rows: TaskRows, apart: Sequence[str]) -> dict[str, Any]:
    if not apart:
        return {"why_not": "No scale tells the rungs apart, so there can be no verdict."}
    try:
        found = verdict(rows, apart[0])
    except EmergenceError as error:
        return {"why_not": str(error)}
    return {"axis": apart[0], **vars(found), "sentence": str(found)}


def _heat_map(
    rows: TaskRows,
    rungs: Sequence[str],
    names: Mapping[tuple[str, str], str],
    lines: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """Returns instances by rungs, with the lines of each instance in the runs' answers files: one
    number if they agree, else one for each run in the order of "runs"."""
    found = heat_map(rows, "parameters")
    order = [rungs[int(place)] for place in _order(rows, "parameters")]
    columns = [sorted(name for (rung, _), name in names.items() if rung == of) for of in order]
    runs = [run for column in columns for run in column]
    places = []
    for instance in found.instances:
        of_runs = [lines[run].get(instance) for run in runs]
        places.append(of_runs[0] if len(set(of_runs)) == 1 else of_runs)
    return {
        "instances": found.instances,
        "rungs": order,
        "scale": found.rungs,
        "solved": np.round(found.solved, 4),
        "first_solved": found.first_solved,
        "runs": columns,
        "lines": places,
    }


ABILITIES = Analysis(
    "abilities", "Abilities against scale", "Abilities", analyse_abilities, present, METHOD
)
