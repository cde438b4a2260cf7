"""Prediction of where an ability will appear, from fine-tuned models (Snell et al., 2411.16035).

The more examples a model is fine-tuned on, the higher the pre-training loss at which it shows the
ability. The law of that, fitted to models that cannot do the task without fine-tuning, predicts the
loss at which a model will; the study's own models show whether it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.emergence import EmergenceError, fit_emergence_law, fit_onset
from jaxgen.studies.analyses.base import Analysis, Tree, figure_name, shade_of
from jaxgen.studies.formatting import between, count, number
from jaxgen.studies.plots import Axis, Block, DataTable, Figure, Plot, Sentence, line, points
from jaxgen.studies.study_runs import StudyRun

UNABLE = 0.05
"""Exact match above chance up to which a model counts as unable."""
CURVE_POINTS = 60
REACH = 0.15
"""Share of the range of losses by which curves are drawn beyond it."""
METHOD = (
    "The emergence law is fitted by least squares; its intervals resample models together with "
    "their fine-tuned runs. The loss at which models begin to do the task without fine-tuning "
    "is the kink of a piecewise-linear curve through them. Fine-tuned runs enter no scaling law "
    "and no ability curve."
)
FORMULA = "performance = min(1, A max(0, k (ln D)^a + C - L) + chance)"


class FineTuned(NamedTuple):
    """A fine-tuned run and the run that it was initialised from."""

    child: StudyRun
    parent: StudyRun


def analyse_finetuning(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Analyses every task that fine-tuned runs and their parents were scored on.

    Returns:
      For each: "task", "mixture" (of the fine-tuning), "untuned" (each parent as it is), "points"
      (each fine-tuned run; "is_fitted" where its parent could not do the task), "onset" (the loss
      where parents begin to, or "why_not"); and "why_not", or "formula", "law" (parameters with
      intervals), "error", "is_of_unable" (else all models were fitted, as too few were unable) and
      "curves", one for each number of examples and one for none ("examples" 1).
    """
    parents = {(run.name, run.record["fingerprint"]): run for run in runs}
    found: dict[tuple[str, str], list[FineTuned]] = {}
    for run in runs:
        parent = parents.get(run.parent) if run.parent else None
        if parent is None:
            continue
        for task in _answered(run) & _answered(parent):
            found.setdefault((run.mixture, task), []).append(FineTuned(run, parent))
    return [_task(task, mixture, pairs) for (mixture, task), pairs in sorted(found.items())]


def _answered(run: StudyRun) -> set[str]:
    evaluation = run.record["evaluation"]
    return {task for task, scores in evaluation.items() if scores.get("exact_match") is not None}


def _task(task: str, mixture: str, pairs: Sequence[FineTuned]) -> dict[str, Any]:
    def score(run: StudyRun) -> float:
        return float(run.record["evaluation"][task]["exact_match"])

    chance = float(pairs[0].child.record["evaluation"][task].get("chance") or 0.0)
    parents = {pair.parent.name: pair.parent for pair in pairs}
    unable = {name for name, run in parents.items() if score(run) <= chance + UNABLE}
    is_of_unable = len(unable) >= 3
    fitted = unable if is_of_unable else set(parents)
    losses = {name: _pretraining_loss(run, task) for name, run in parents.items()}
    points = [
        {
            "run": pair.child.name,
            "parent": pair.parent.name,
            "loss": losses[pair.parent.name],
            "examples": sum(pair.child.record["examples"].values()),
            "performance": score(pair.child),
            "is_fitted": pair.parent.name in fitted,
        }
        for pair in pairs
    ]
    untuned = [
        {"run": name, "loss": losses[name], "performance": score(run)}
        for name, run in parents.items()
    ]
    head = {
        "task": task,
        "mixture": mixture,
        "chance": chance,
        "points": points,
        "untuned": untuned,
        "is_of_unable": is_of_unable,
        "onset": _onset(untuned, chance),
    }
    try:
        return head | _law(points, chance, list(losses.values()))
    except EmergenceError as error:
        return head | {"why_not": str(error)}


def _pretraining_loss(run: StudyRun, task: str) -> float:
    """Returns the mean held-out loss over the other tasks, in nats/token."""
    others = [name for name in run.losses if name != task]
    return float(np.mean([run.loss(name) for name in others])) if others else run.loss()


def _column(points: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([point[name] for point in points])


def _onset(untuned: Sequence[dict[str, Any]], chance: float) -> dict[str, Any]:
    loss, performance = (_column(untuned, name) for name in ("loss", "performance"))
    if not (performance > chance + UNABLE).any():
        return {"why_not": "no model of the study does the task without fine-tuning."}
    try:
        onset = fit_onset(loss, performance, chance)
    except EmergenceError as error:
        return {"why_not": str(error)}
    return {"loss": onset.loss, "slope": onset.slope}


def _law(points: Sequence[dict[str, Any]], chance: float, losses: list[float]) -> dict[str, Any]:
    fitted = [point for point in points if point["is_fitted"]]
    columns = (_column(fitted, name) for name in ("parent", "loss", "examples", "performance"))
    law = fit_emergence_law(*columns, chance=chance)
    spare = REACH * max(np.ptp(losses), 1e-6)
    x = np.linspace(min(losses) - spare, max(losses) + spare, CURVE_POINTS)
    counts = sorted({point["examples"] for point in points})
    return {
        "formula": FORMULA,
        "error": law.error,
        "law": [
            {"name": symbol, "value": getattr(law, name), "interval": law.intervals.get(name)}
            for symbol, name in (("A", "slope"), ("k", "rate"), ("a", "power"), ("C", "few_shot"))
        ],
        "thresholds": [{"examples": n, "loss": float(law.threshold(n))} for n in (1, *counts)],
        "curves": [
            {"examples": n, "x": x, "y": law.performance(x, np.full(len(x), n))}
            for n in (1, *counts)
        ],
    }


def _present(tree: Tree) -> Sequence[Block]:
    found = tree["finetuning"]
    if not found:
        return []
    text = (
        "Fine-tuning on some examples shows an ability in models that lack it: the more examples, "
        "the higher the pre-training loss at which it appears. The law of that is extrapolated to "
        "no examples at all (Snell et al., 2411.16035)."
    )
    blocks: list[Block] = [Sentence(text)]
    for one in found:
        is_same = one["mixture"] == one["task"]
        name = one["task"] if is_same else f"{one['task']}, fine-tuned on {one['mixture']}"
        blocks += [Sentence(name, "heading"), *_task_blocks(tree, one)]
    return blocks


def _examples(number_of: int) -> str:
    return "not fine-tuned" if number_of == 1 else f"{count(number_of)} examples"


def _nats(estimate: dict[str, Any]) -> str:
    interval = between([estimate["low"], estimate["high"]])
    return f"{number(estimate['value'])} nats ({interval})"


def _task_blocks(tree: Tree, found: dict[str, Any]) -> Sequence[Block]:
    figure = _figure(tree, found)
    if "why_not" in found:
        return [Sentence(f"No law: {found['why_not']}", "soft"), figure]
    law = {one["name"]: one for one in found["law"]}
    fitted_to = (
        "models that cannot do the task without fine-tuning"
        if found["is_of_unable"]
        else "all models, as too few are unable to do the task without fine-tuning"
    )
    seen = found["onset"]
    observed = (
        f"Not observed: {seen['why_not']}"
        if "why_not" in seen
        else f"Observed: {_nats(seen['loss'])}."
    )
    onset = _nats(law["C"] | law["C"]["interval"])
    predicted = (
        f"Fitted to {fitted_to}, the law predicts that a model begins to do the task without "
        f"fine-tuning at a pre-training loss of {onset}. {observed}"
    )
    formula = (
        f"{found['formula']}, where D is the number of examples and chance is "
        f"{number(found['chance'])}; points scatter about the law by {number(found['error'], 2)}."
    )
    parameters = [
        (one["name"], number(one["value"]), between([one["interval"][e] for e in ("low", "high")]))
        for one in found["law"]
    ]
    thresholds = [
        (_examples(one["examples"]), f"{number(one['loss'])} nats") for one in found["thresholds"]
    ]
    return [
        Sentence(predicted),
        figure,
        Sentence(formula),
        DataTable(("", "value", "95% interval"), parameters, "Parameters of the law"),
        DataTable(("fine-tuned on", "loss"), thresholds, "Where the ability begins"),
    ]


def _figure(tree: Tree, found: dict[str, Any]) -> Figure:
    counts, untuned = sorted({run["examples"] for run in found["points"]}), found["untuned"]

    def look(examples: int) -> dict[str, Any]:
        if examples == 1:
            return {"color": "accent", "is_open": True}
        return {"shade": shade_of(examples, counts)}

    def tip(run: dict[str, Any]) -> str:
        score = f"exact match {number(run['performance'])}, {_examples(run.get('examples', 1))}"
        parent = f"{run['parent']}: " if "parent" in run else ""
        fitted = "" if run.get("is_fitted", True) else ", not fitted"
        return f"{run['run']}\n{score}\n{parent}loss {number(run['loss'], 4)}{fitted}"

    curves = [
        line(curve, tips=[f"law, {_examples(curve['examples'])}"], **look(curve["examples"]))
        for curve in found.get("curves", ())
    ]
    tuned = [
        points(
            "circle", [run for run in found["points"] if run["examples"] == examples], "loss",
            "performance", tip, label=_examples(examples), **look(examples),
        )
        for examples in counts
    ]  # fmt: skip
    parents = points("square", untuned, "loss", "performance", tip, label=_examples(1), **look(1))
    top = max(run["performance"] for run in (*found["points"], *untuned))
    top = max(top, found["chance"] + 0.05)
    x = Axis("pre-training loss (nats/token)", is_reversed=True)
    y = Axis("exact match", limits=(-0.03 * top, 1.1 * top))
    name = figure_name(tree, "finetuning", found)
    return Figure((Plot(x, y, (*curves, *tuned, parents)),), name)


FINETUNING = Analysis(
    "finetuning", "Abilities predicted by fine-tuning", "Fine-tuning", analyse_finetuning,
    _present, METHOD,
)  # fmt: skip
