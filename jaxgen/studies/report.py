"""One self-contained report.html from the directories of runs: opens offline, anywhere."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jaxgen.files import read_rows, write_atomically
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.studies.analysis import analyse_runs, plain
from jaxgen.studies.preregistration import outcomes
from jaxgen.studies.samples import samples_file
from jaxgen.studies.study_runs import StudyRun, check_runs

CURVE_POINTS = 200
HEADING = "study.json"
SCRIPTS = ("drawing", "laws", "allocation", "comparison", "abilities", "finetuning", "report")
"""In the order in which they build on each other."""


def write_heading(folder: Path, title: str, lead: str) -> None:
    """Keeps in a study's folder what its report is called and what it asks."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"title": title, "lead": lead}
    write_atomically(folder / HEADING, json.dumps(content, indent=1) + "\n")


def read_heading(folder: Path) -> dict[str, str]:
    """The "title" and the "lead" that are kept in a folder; nothing where none are."""
    path = folder / HEADING
    return json.loads(path.read_text()) if path.exists() else {}


def write_report(
    directories: Sequence[RunDirectory],
    path: str | os.PathLike,
    title: str,
    lead: str,
    analysis: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the report of finished runs.

    Args:
      directories: of the runs, each finished.
      path: of the HTML file, written whole or not at all.
      title: of the page.
      lead: a paragraph on what was asked, as text.
      analysis: of the runs, see `analysis.analyse`; made here where it is not given.

    Raises:
      CheckpointError: if the file cannot be written.
      StudyError: if a run is not finished or the runs make no study, see `study_runs`.
    """
    path = Path(path)
    study = check_runs(directories)
    runs = [describe(run, path.parent) for run in study]
    runs.sort(key=lambda run: (run["parameters"]["active"], run["sparse"], run["seed"]))
    if analysis is None:
        analysis = analyse_runs(study, outcomes(directories[0].path.parent))
    data = {"title": title, "runs": runs, "tasks": _tasks(runs), "analysis": plain(analysis)}
    page = _asset("report.html")
    for mark, text in {
        "{{title}}": html.escape(title),
        "{{lead}}": html.escape(lead),
        "{{uplot_css}}": _asset("vendor/uplot/uPlot.min.css"),
        "{{uplot_js}}": _asset("vendor/uplot/uPlot.iife.min.js"),
        "{{css}}": _asset("report.css"),
        "{{js}}": "".join(_asset(f"{name}.js") for name in SCRIPTS),
        # "</" would end the script element that holds the data.
        "{{data}}": json.dumps(data, allow_nan=False).replace("</", "<\\/"),
    }.items():
        page = page.replace(mark, text)
    write_atomically(path, page)
    return path


def describe(run: StudyRun, folder: Path) -> dict[str, Any]:
    """What the report says of one run."""
    directory, record = run.directory, run.record
    metrics = read_metrics(directory.metrics_file)
    rows = read_rows(run.answers_file)
    samples = samples_file(directory)
    per_token = record["flops_per_token"]
    speeds = [row["tokens_per_second"] for row in metrics if row.get("tokens_per_second")]
    return {
        "name": record["name"],
        "path": os.path.relpath(directory.path, folder),
        "fingerprint": record["fingerprint"],
        "mixture": run.mixture,
        "seed": run.seed,
        "sparse": run.is_sparse,
        "parameters": record["parameters"],
        "steps": record["steps"],
        "tokens": record["tokens"],
        "flops": record["flops"],
        "tokens_per_second": sorted(speeds)[len(speeds) // 2] if speeds else None,
        "loss": _mean_loss(record["evaluation"]),
        "curve": _curve(metrics, per_token),
        "scores": _scores(record["evaluation"], rows),
        "samples": json.loads(samples.read_text()) if samples.exists() else [],
        "versions": record["versions"],
        "revision": record["git_revision"],
    }


def _mean_loss(evaluation: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Over the tasks that have one; those of a suite have answers alone."""
    losses = [scores["loss"] for scores in evaluation.values() if scores.get("loss") is not None]
    return sum(losses) / len(losses) if losses else None


def _curve(metrics: list[dict[str, Any]], flops_per_token: int) -> dict[str, list[float]]:
    """Training loss against FLOPs, thinned to at most CURVE_POINTS points."""
    rows = [row for row in metrics if row["loss"] is not None]
    every = max(1, -(-len(rows) // CURVE_POINTS))
    rows = rows[: len(rows) - 1 : every] + rows[-1:]
    return {
        "flops": [row["tokens"] * flops_per_token for row in rows],
        "loss": [row["loss"] for row in rows],
    }


def _scores(
    evaluation: dict[str, dict[str, Any]], rows: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """By task, the summary's figures and the answers' log-probability a token."""
    scores = {}
    for task, summary in evaluation.items():
        scores[task] = dict(summary)
        answers = [row for row in rows if row["task"] == task]
        if answers and all("log_probability" in row for row in answers):
            total = sum(row["log_probability"] for row in answers)
            scores[task]["log_probability_per_token"] = total / sum(
                row["answer_tokens"] for row in answers
            )
    return scores


def _tasks(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tasks of all runs, and whether each has answers."""
    names = sorted({name for run in runs for name in run["scores"]})
    return [
        {
            "name": name,
            "has_answers": any("exact_match" in run["scores"].get(name, {}) for run in runs),
        }
        for name in names
    ]


def _asset(name: str) -> str:
    return resources.files("jaxgen.studies").joinpath("assets", name).read_text(encoding="utf-8")
