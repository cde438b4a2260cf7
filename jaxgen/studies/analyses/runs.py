"""The runs of a study: where each is, what it cost and what it scored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from jaxgen.runs.run_directory import read_metrics
from jaxgen.studies.analyses.base import Analysis, Tree
from jaxgen.studies.formatting import count, fixed, number
from jaxgen.studies.plots import Block, DataTable, Sentence
from jaxgen.studies.scored_answers import read_answers
from jaxgen.studies.study_runs import StudyRun

METHOD = (
    "Parameters and FLOPs are exact closed forms. Active parameters are those that compute one "
    "token, so experts that a token is not routed to do not count. Attention is counted over all "
    "pairs of a row. Held-out instances share no key and no file with the training data. An exact "
    "match means that every token of the answer, the end token included, is the most likely one. "
    "Every number comes from the run directories in the table: run.json, metrics.jsonl and evals/, "
    "which has one row for each instance."
)


def describe_runs(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Returns what run.json and the answers say of each run."""
    return [describe_run(run) for run in runs]


def describe_run(run: StudyRun) -> dict[str, Any]:
    """Returns what run.json and the answers say of a run."""
    record = run.record
    metrics = read_metrics(run.directory.metrics_file)
    speeds = sorted(row["tokens_per_second"] for row in metrics if row.get("tokens_per_second"))
    return {
        "name": run.name,
        "rung": run.rung,
        "mixture": run.mixture,
        "seed": run.seed,
        "is_sparse": run.is_sparse,
        "parameters": run.parameters,
        "tokens": record["tokens"],
        "flops": record["flops"],
        "loss": None if run.has_no_loss else run.loss(),
        "parent": run.parent[0] if run.parent else None,
        "answers_file": os.path.join(run.directory.path.name, "evals", run.answers_file.name),
        "folder": run.directory.path.name,
        "fingerprint": record["fingerprint"],
        "tokens_per_second": speeds[len(speeds) // 2] if speeds else None,
        "scores": _scores(run),
        "versions": record["versions"],
        "revision": record["git_revision"],
    }


def _scores(run: StudyRun) -> dict[str, dict[str, Any]]:
    """Returns by task what run.json says, and the answers' log-probability per token."""
    scores = {task: dict(summary) for task, summary in run.record["evaluation"].items()}
    answers: dict[str, list[dict[str, Any]]] = {}
    for _, row in read_answers(run):
        answers.setdefault(row["task"], []).append(row)
    for task, rows in answers.items():
        if task in scores and all("log_probability" in row for row in rows):
            total = sum(row["log_probability"] for row in rows)
            tokens = sum(row["answer_tokens"] for row in rows)
            scores[task]["log_probability_per_token"] = total / tokens
    return scores


def _present(tree: Tree) -> Sequence[Block]:
    runs = sorted(
        tree["runs"], key=lambda run: (run["parameters"]["active"], run["is_sparse"], run["seed"])
    )
    scored = {
        name for run in runs for name, scores in run["scores"].items() if "exact_match" in scores
    }
    names = [run["name"] for run in runs]
    has_folders = any(run["folder"] != run["name"] for run in runs)
    table = DataTable(
        ("run", "parameters", "active", "tokens", "FLOPs", "tokens/s", "held-out loss",
         "fingerprint", *(("folder",) if has_folders else ())),
        [
            (run["name"], count(run["parameters"]["total"]), count(run["parameters"]["active"]),
             count(run["tokens"]), number(run["flops"]), count(run["tokens_per_second"]),
             fixed(run["loss"]), run["fingerprint"], *((run["folder"],) if has_folders else ()))
            for run in runs
        ],
    )  # fmt: skip
    scores = [
        [fixed(run["scores"].get(task, {}).get("exact_match")) for run in runs]
        for task in sorted(scored)
    ]
    rows = list(zip(names, *scores, strict=True))
    exact = (
        [DataTable(("run", *sorted(scored)), rows, "Exact match of every run")] if scored else []
    )
    flops = sum(run["flops"] for run in runs)
    first = runs[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    revision = f"; revision {first['revision'][:12]}" if first["revision"] else ""
    return [
        Sentence(f"{len(runs)} runs, {number(flops, 2)} FLOPs in all."),
        table,
        *exact,
        Sentence(f"{versions}{revision}", "soft"),
    ]


RUNS = Analysis("runs", "Runs", "Runs", describe_runs, _present, METHOD)
