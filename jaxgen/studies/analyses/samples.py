"""Sample outputs of a study's models: answers to held-out prompts, continuations of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxgen.errors import StudyError
from jaxgen.json_values import read_json
from jaxgen.studies.analyses.base import Analysis, Tree
from jaxgen.studies.plots import Block, Cell, DataTable, Sentence, menu_of
from jaxgen.studies.samples import samples_file
from jaxgen.studies.study_runs import StudyRun

SAMPLE = {"task": str, "prompt": str, "completion?": str, "said?": str,
          "reference?": (str, None), "right?": (str, None)}  # fmt: skip
"""The shape of a row of samples.json."""
SHOWN = 2
"""Samples of a run and task in the page."""


def read_samples(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Returns the rows of every run's samples.json, each with the name of its "run"."""
    found = []
    for run in runs:
        try:
            rows = read_json(samples_file(run.directory), [SAMPLE], "remove it", StudyError)
        except FileNotFoundError:
            continue
        found += [{"run": run.name} | row for row in rows]
    return found


def _present(tree: Tree) -> Sequence[Block]:
    if not tree["samples"]:
        return []
    tables: dict[str, list[Block]] = {}
    for task in sorted({row["task"] for row in tree["samples"]}):
        rows: list[tuple[Cell, ...]] = []
        for run in dict.fromkeys(row["run"] for row in tree["samples"]):
            mine = [r for r in tree["samples"] if (r["run"], r["task"]) == (run, task)]
            rows += [_row(sample) for sample in mine[:SHOWN]]
        columns = ("run", "prompt", "completion", "reference")
        tables[task] = [DataTable(columns, rows, text_columns=(0, 1, 2, 3))]
    text = Sentence(
        "Greedy answers to held-out prompts, and continuations of held-out text sampled at "
        "temperature 0.8 and top-p 0.95."
    )
    return [text, *menu_of("Task", tables)]


def _row(sample: dict[str, Any]) -> tuple[Cell, ...]:
    # Runs trained before the fields had these names call them "said" and "right".
    completion: str = sample.get("completion", sample.get("said", ""))
    reference: str | None = sample.get("reference", sample.get("right"))
    tone = "code" if reference is None else "good" if completion == reference else "bad"
    return sample["run"], (sample["prompt"], "code"), (completion, tone), (reference or "", "code")


SAMPLES = Analysis("samples", "Sample outputs", "Samples", read_samples, _present)
