"""What fine-tuned models say of where an ability will appear (Snell et al., 2411.16035).

Runs that begin with the parameters of another run of the study show the ability at a higher
pre-training loss, the more examples they were given. The law of that, fitted to models that cannot
do the task unasked, says at which loss a model will; the study's own models, as they are, say
whether it was right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.emergence import EmergenceError, fit_emergence_law, fit_onset
from jaxgen.studies.study_runs import StudyRun

UNABLE = 0.05
"""Above chance, up to which exact match counts as not able."""
CURVE_POINTS = 60
REACH = 0.15
"""Of the range of losses: how far curves are drawn beyond it."""
FORMULA = "performance = min(1, A max(0, k (ln D)^a + C - L) + chance)"


class Pair(NamedTuple):
    """A run, and the one whose parameters it began with."""

    child: StudyRun
    parent: StudyRun


def analyse_finetuning(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Every task that fine-tuned runs and their parents were judged on.

    Returns:
      Of each: "task", "mixture" (of the fine-tuning), "untuned" (each parent as it is), "points"
      (each fine-tuned run; "is_fitted" where its parent could not do the task), "onset" (the loss
      where parents begin to, or "why_not"); and "why_not", or "formula", "law" (parameters with
      intervals), "error", "is_of_unable" (else all models were fitted, as too few were unable) and
      "curves", one for each number of examples and one for none ("examples" 1).
    """
    parents = {(run.name, run.record["fingerprint"]): run for run in runs}
    found: dict[tuple[str, str], list[Pair]] = {}
    for run in runs:
        parent = parents.get(run.parent) if run.parent else None
        if parent is None:
            continue
        for task in _answered(run) & _answered(parent):
            found.setdefault((run.mixture, task), []).append(Pair(run, parent))
    return [_of_task(task, mixture, pairs) for (mixture, task), pairs in sorted(found.items())]


def _answered(run: StudyRun) -> set[str]:
    evaluation = run.record["evaluation"]
    return {task for task, scores in evaluation.items() if scores.get("exact_match") is not None}


def _of_task(task: str, mixture: str, pairs: Sequence[Pair]) -> dict[str, Any]:
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
    """The mean held-out loss over the tasks that are not judged; nats a token."""
    evaluation = run.record["evaluation"]
    others = [name for name in evaluation if name != task and evaluation[name].get("loss")]
    return float(np.mean([run.loss(name) for name in others])) if others else run.loss()


def _column(points: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([point[name] for point in points])


def _onset(untuned: Sequence[dict[str, Any]], chance: float) -> dict[str, Any]:
    loss, performance = (_column(untuned, name) for name in ("loss", "performance"))
    if not (performance > chance + UNABLE).any():
        return {"why_not": "no model of the study does the task unasked."}
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
