"""The scored answers of a study's runs, as the rows that verdicts on emergence rest on.

    tasks = emergence_rows(read_runs("runs/study")).tasks    # task -> emergence.TaskRows

Every answer keeps its line in its run's evals/STEP.jsonl. An instance that is asked again counts as
another one, named "INSTANCE #2".
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.emergence import EmergenceError, TaskRows, read_rows
from jaxgen.errors import StudyError
from jaxgen.json_values import check_shape, parse_json
from jaxgen.studies.study_runs import LEAST_LOSS, StudyRun

PAIRED = ("exact_match", "token_accuracy", "log_probability", "answer_tokens")
OPTIONAL = ("choice_probability", "brier", "edit_distance")
ANSWER = {"task": str, "instance": object, "chance?": float} | {
    f"{name}?": (float, None) for name in (*PAIRED, *OPTIONAL)
}
"""The shape of a row of evals/STEP.jsonl."""


class AnswerMeans(NamedTuple):
    """Means over answers: loss in nats/token, exact match; and how many answers there are."""

    loss: float
    exact_match: float
    count: int


@dataclasses.dataclass(frozen=True)
class ScoredAnswers:
    """The scored answers of a study.

    Attributes:
      tasks: task -> its rows.
      lines: task -> run -> instance -> line of the run's answers file, from 1.
      by_run: task -> run -> means over its answers.
      left_out: task -> why its rows cannot be read as an ability.
    """

    tasks: Mapping[str, TaskRows]
    lines: Mapping[str, Mapping[str, Mapping[str, int]]]
    by_run: Mapping[str, Mapping[str, AnswerMeans]]
    left_out: Mapping[str, str]

    def means(self, task: str, runs: Sequence[StudyRun]) -> tuple[np.ndarray, np.ndarray]:
        """Returns [runs] the loss of a task's answers in nats/token, and [runs] the exact match.

        Raises:
          StudyError: a run was not scored on the task.
        """
        if absent := [run.name for run in runs if run.name not in self.by_run[task]]:
            raise StudyError(
                f"run {absent[0]} was not scored on task {task!r}, others were; evaluate all alike."
            )
        pairs = np.array([self.by_run[task][run.name] for run in runs])
        return pairs[:, 0], pairs[:, 1]


def emergence_rows(runs: Sequence[StudyRun]) -> ScoredAnswers:
    """Reads every scored answer of the runs, by task.

    A task none of whose rows has the paired metrics (one scored by choice alone, say) is left out,
    with the reason; a metric that only some rows have is an error.

    Raises:
      StudyError: a file of answers that is missing or cannot be read; a missing metric.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if run.has_no_loss:
            continue  # Abilities are told by loss.
        scales = {
            "parameters": run.parameters["active"],
            "flops": run.record["flops"],
            "tokens": run.record["tokens"],
            "loss": run.loss(),
        }
        asked: collections.Counter[tuple[str, str]] = collections.Counter()
        for line, row in read_answers(run):
            # A generated task may ask the same thing twice; the order is the same in every run.
            asked[key := (row["task"], str(row["instance"]))] += 1
            if asked[key] > 1:
                row["instance"] = f"{key[1]} #{asked[key]}"
            chance = run.record["evaluation"].get(row["task"], {}).get("chance") or 0.0
            whose = {"run": run.name, "seed": run.seed, "rung": run.rung, "line": line}
            rows.setdefault(row["task"], []).append({"chance": chance} | row | whose | scales)
    tasks, left_out = {}, {}
    for task, of_task in rows.items():
        if missing := _missing(task, of_task):
            left_out[task] = f"its rows have no {', '.join(missing)}"
            continue
        try:
            tasks |= read_rows(_same_chance(of_task))
        except EmergenceError as error:
            raise StudyError(f"answers of task {task!r}: {error}") from error
    lines: dict[str, dict[str, dict[str, int]]] = {}
    for task in tasks:
        for row in rows[task]:
            by_run = lines.setdefault(task, {}).setdefault(row["run"], {})
            by_run[str(row["instance"])] = row["line"]
    by_run = {task: means_by("run", rows[task]) for task in tasks}
    return ScoredAnswers(tasks, lines, by_run, left_out)


def read_answers(run: StudyRun) -> list[tuple[int, dict[str, Any]]]:
    """Returns (line from 1, row) of each of a run's answers."""
    path = run.answers_file
    if not path.exists():
        raise StudyError(
            f"run {run.name} has no {path}; `jaxgen evaluate --run_dir={run.directory.path}` "
            "makes it."
        )
    found = []
    for line, text in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = parse_json(text)
        except ValueError as error:
            raise StudyError(
                f"{path}:{line} is not JSON ({error}); evaluate the run again."
            ) from error
        try:
            check_shape(row, ANSWER)
        except ValueError as error:
            raise StudyError(f"{path}:{line}: {error}; evaluate the run again.") from error
        found.append((line, row))
    return found


def means_by(name: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, AnswerMeans]:
    """Returns the means over all answers by "run" or "task".

    Rows without the paired metrics are left out.
    """
    sums: dict[str, np.ndarray] = {}
    for row in rows:
        if any(row.get(metric) is None for metric in PAIRED):
            continue
        one = [-row["log_probability"], row["answer_tokens"], row["exact_match"], 1]
        sums[row[name]] = sums.get(row[name], np.zeros(4)) + np.array(one)
    return {
        key: AnswerMeans(max(total[0] / total[1], LEAST_LOSS), total[2] / total[3], int(total[3]))
        for key, total in sums.items()
    }


def _missing(task: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the paired metrics that no row has; raises if only some rows have one."""
    absent = []
    for name in PAIRED:
        without = [row for row in rows if row.get(name) is None]
        if without and len(without) < len(rows):
            raise StudyError(
                f"run {without[0]['run']} has no {name} of task {task!r} (line "
                f"{without[0]['line']} of its answers), other runs do; evaluate all alike."
            )
        if without:
            absent.append(name)
    return absent


def _same_chance(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns rows with the task's mean chance, without optional metrics that some lack."""
    chance = float(np.mean([row["chance"] for row in rows]))
    partial = {name for name in OPTIONAL if any(row.get(name) is None for row in rows)}
    return [{k: v for k, v in row.items() if k not in partial} | {"chance": chance} for row in rows]
