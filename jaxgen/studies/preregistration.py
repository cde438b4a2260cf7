"""Pre-registration: predictions that are written before the largest rungs are trained.

    rung = held_out_rung(configs)                # of the rung's seeds, not yet trained
    preregister("runs/study", [rung])               # writes predictions.json, once
    ...                                          # train it
    outcomes("runs/study")                       # inside or outside the intervals, by how much

The file holds the laws, the runs that they were fitted to, the versions, the time and a digest of
all of it. The digest reveals a change by accident or by hand. It is no proof, as anyone can compute
it anew: for that, commit the file, or publish its digest where somebody else keeps the date.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.errors import StudyError
from jaxgen.files import write_atomically
from jaxgen.json_values import check_pair, check_time, read_json
from jaxgen.laws import LawError
from jaxgen.studies.forecasting import forecast_loss, forecast_score
from jaxgen.studies.held_out_rung import HeldOutRung
from jaxgen.studies.scored_answers import emergence_rows
from jaxgen.studies.study_runs import (
    StudyRun,
    find_directories,
    group_by_ladder,
    read_runs,
    rung_of,
    table_of,
)
from jaxgen.studies.task_forecasts import answers_of, table_of_ends, tables_of_checkpoints
from jaxgen.studies.task_runs import TaskRuns, mean_over, task_runs_of

FILE = "predictions.json"

FORECAST = {"value": float, "seed_mean": check_pair, "new_run": check_pair}
REGISTERED = {
    "level": float, "time": check_time, "digest": str, "versions": {str: str},
    "revision": (str, None),
    "predictions": [{
        "held_out": {"name": str, "seeds": [int]}, "loss": FORECAST,
        "scores": {str: (FORECAST, {"why_not": str})},
    }],
}  # fmt: skip
"""The shape of the file."""


def preregister(
    study_folder: str | os.PathLike, rungs: Sequence[HeldOutRung], level: float = 0.9
) -> dict[str, Any]:
    """Predicts rungs from the finished runs and writes predictions.json.

    The laws of a rung are fitted to the runs of its ladder that used less compute.

    Args:
      study_folder: of the runs.
      rungs: to be predicted.
      level: of the intervals.

    Returns:
      The content of the file.

    Raises:
      StudyError: a run of a rung has finished, a prediction exists already, or too few runs have.
    """
    folder = Path(study_folder)
    names = {rung.name for rung in rungs}
    for one in find_directories(folder):
        if one.is_finished() and (name := rung_of(one.read_finished()["name"])) in names:
            raise StudyError(
                f"{one.path.name} of rung {name!r} has already finished, so nothing can be "
                "predicted of it any more; pre-register before it is trained."
            )
    path = folder / FILE
    if path.exists():
        raise StudyError(
            f"{path} exists already: a pre-registered prediction is not replaced. Keep it, or give "
            "the study another folder."
        )
    runs = read_runs(folder)
    content: dict[str, Any] = {
        "level": level,
        "predictions": [_predict(runs, rung, level) for rung in rungs],
        "versions": runs[0].record["versions"],
        "revision": runs[0].record["git_revision"],
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    content = json.loads(json.dumps(content, allow_nan=False))
    content["digest"] = digest_of(content)
    write_atomically(path, json.dumps(content, indent=1) + "\n")
    return content


def read_preregistration(study_folder: str | os.PathLike) -> dict[str, Any] | None:
    """Returns the pre-registration of a study, or None if it has none.

    Raises:
      StudyError: the file was changed since, or cannot be read.
    """
    path = Path(study_folder) / FILE
    try:
        content = read_json(path, REGISTERED, "restore the original file", StudyError)
    except FileNotFoundError:
        return None
    found = digest_of(content)
    if content.get("digest") != found:
        raise StudyError(
            f"{path} was changed after it was written: its digest is {found[:12]}, it says "
            f"{str(content.get('digest'))[:12]}. Restore the original file."
        )
    return content


def outcomes(study_folder: str | os.PathLike) -> dict[str, Any] | None:
    """Compares the pre-registered predictions with the outcomes; None if there are none.

    Returns:
      "registered", the file; and "rungs", of each in the file's order: "loss" and "scores",
      comparisons: "predicted", "actual" (the mean over seeds), "interval", "is_inside", "error"
      (actual less predicted), "outside_by" (0 inside) and "by_run", the same of every run against
      the interval of a new run; None before the rung has run. "late" names runs that were started
      before the prediction was registered, and "missing" seeds that were planned and have not
      finished.

    Raises:
      StudyError: the file was changed.
    """
    registered = read_preregistration(study_folder)
    if registered is None:
        return None
    runs = read_runs(study_folder)
    written = datetime.datetime.fromisoformat(registered["time"])
    return {
        "registered": registered,
        "rungs": [_outcome(runs, one, written) for one in registered["predictions"]],
    }


def _outcome(
    finished: Sequence[StudyRun], predicted: Mapping[str, Any], written: datetime.datetime
) -> dict[str, Any]:
    """Returns the outcome of one rung; see `outcomes`."""
    rung = predicted["held_out"]
    runs = [run for run in finished if run.rung == rung["name"]]
    result: dict[str, Any] = {"loss": None, "scores": {}}
    result["missing"] = sorted({*rung["seeds"]} - {run.seed for run in runs})
    begun = {run.name: run.record.get("first_started", run.record["started"]) for run in runs}
    result["late"] = [
        name for name, time in begun.items() if datetime.datetime.fromisoformat(time) < written
    ]
    if not runs:
        return result
    result["loss"] = compare(predicted["loss"], {run.name: run.loss() for run in runs})
    for task, forecast in predicted["scores"].items():
        actual = {
            run.name: run.record["evaluation"][task]["exact_match"]
            for run in runs
            if "exact_match" in run.record["evaluation"].get(task, {})
        }
        if "value" in forecast and actual:
            result["scores"][task] = compare(forecast, actual)
    return result


def compare(predicted: Mapping[str, Any], actual: Mapping[str, float]) -> dict[str, Any]:
    """Compares a forecast with the values of runs; see `outcomes`."""
    mean = float(np.mean(list(actual.values())))
    return {
        **_beside(predicted["value"], mean, predicted["seed_mean"]),
        "by_run": {
            name: _beside(predicted["value"], value, predicted["new_run"])
            for name, value in actual.items()
        },
    }


def digest_of(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of all entries but the digest, whatever the layout of the file."""
    kept = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _beside(predicted: float, actual: float, interval: Sequence[float]) -> dict[str, Any]:
    low, high = interval
    return {
        "predicted": predicted,
        "actual": actual,
        "interval": [low, high],
        "is_inside": bool(low <= actual <= high),
        "error": actual - predicted,
        "outside_by": float(min(actual - low, 0) + max(actual - high, 0)),
    }


def _predict(finished: Sequence[StudyRun], rung: HeldOutRung, level: float) -> dict[str, Any]:
    runs = [
        run
        for run in group_by_ladder(finished).get(rung.ladder, ())
        if run.record["flops"] < rung.flops
    ]
    if not runs:
        raise StudyError(
            f"no finished {rung.ladder.kind} run on {rung.mixture!r} took less compute than rung "
            f"{rung.name!r}, so nothing can be predicted of it; train smaller ones first."
        )
    tasks = task_runs_of("", runs)
    scored = [task for task in tasks if task.is_scored]
    left_out = emergence_rows(runs).left_out
    return {
        "held_out": dataclasses.asdict(rung),
        "loss": _predict_loss(runs, tasks, rung, level),
        "scores": {task: {"why_not": reason} for task, reason in left_out.items()}
        | {task.task: _predict_score(runs, task, rung, level) for task in scored},
        "points": [_point(run) for run in runs],
    }


def _predict_loss(
    runs: Sequence[StudyRun], tasks: Sequence[TaskRuns], rung: HeldOutRung, level: float
) -> dict[str, Any]:
    """Returns a forecast of the mean loss over tasks."""
    table, mean = table_of(runs), mean_over(tasks)
    earlier = [] if mean is None else tables_of_checkpoints(mean, "loss")
    try:
        forecast, law = forecast_loss(table, rung.columns, len(rung.seeds), level, earlier)
    except LawError as error:
        raise StudyError(f"no loss can be predicted: {error}") from error
    return dataclasses.asdict(forecast) | {"law": law}


def _predict_score(
    runs: Sequence[StudyRun], task: TaskRuns, rung: HeldOutRung, level: float
) -> dict[str, Any]:
    """Returns a forecast of exact match, or "why_not"."""
    try:
        losses = table_of_ends(task, "answer_loss").loss
        table = dataclasses.replace(table_of(runs), loss=losses)
        forecast, law = forecast_score(
            table, answers_of(task), rung.columns, len(rung.seeds), level,
            tables_of_checkpoints(task, "answer_loss"),
        )  # fmt: skip
    except (LawError, StudyError) as error:
        return {"why_not": str(error)}
    return dataclasses.asdict(forecast) | {"law": law}


def _point(run: StudyRun) -> dict[str, Any]:
    return {
        "run": run.name,
        "parameters": run.parameters,
        "tokens": run.record["tokens"],
        "unique_tokens": run.unique_tokens,
        "flops": run.record["flops"],
        "loss": run.loss(),
        "run_json": hashlib.sha256(run.directory.run_file.read_bytes()).hexdigest(),
    }
