"""The runs of a ladder on one task, at every checkpoint that was scored, as numbers alone.

tasks = read_task_runs("runs/study")         # from run directories
write_csv("ladders.csv", tasks)              # what forecasts are tested on, without the runs
tasks = read_csv("ladders.csv")
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.errors import StudyError
from jaxgen.files import read_rows
from jaxgen.runs.run_directory import ROW
from jaxgen.studies.scored_answers import ANSWER, AnswerMeans, means_by
from jaxgen.studies.study_runs import StudyRun, group_by_ladder, read_runs

NUMBERS = ("seed", "step", "steps", "parameters", "tokens", "flops", "loss", "answer_loss")
SCORES = ("exact_match", "chance", "instances")
LABELS = ("study", "kind", "mixture", "task", "rung")


@dataclasses.dataclass(frozen=True, eq=False)
class TaskRuns:
    """Measurements of one task over one ladder; a row is a run at a step.

    Attributes:
      study: name of the study's folder.
      kind: "dense" or "sparse".
      mixture: what the runs were trained on.
      task: name.
      rung: [rows] names of the sizes.
      numbers: NUMBERS and SCORES by name, [rows] each. `tokens` and `flops` are those up to the
        step; `loss` is the held-out loss of the task's rows and `answer_loss` that of the scored
        answers, in nats/token, NaN where none was measured, and so are the scores.
    """

    study: str
    kind: str
    mixture: str
    task: str
    rung: np.ndarray
    numbers: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        """Returns a column of numbers, [rows]."""
        return self.numbers[name]

    def __len__(self) -> int:
        return len(self.rung)

    @property
    def is_final(self) -> np.ndarray:
        """Returns whether a row is the end of its run, [rows] bool."""
        return self["step"] == self["steps"]

    @property
    def names(self) -> np.ndarray:
        """Returns the run of each row, [rows] str."""
        pairs = zip(self.rung, self["seed"], strict=True)
        return np.array([f"{rung}-seed{seed:g}" for rung, seed in pairs])

    @property
    def is_scored(self) -> bool:
        """Returns whether its ends have a score."""
        return bool(np.any(np.isfinite(self["exact_match"][self.is_final])))

    def select(self, which: np.ndarray) -> TaskRuns:
        """Returns the rows of a mask."""
        numbers = {name: values[which] for name, values in self.numbers.items()}
        return dataclasses.replace(self, rung=self.rung[which], numbers=numbers)


def mean_over(tasks: Sequence[TaskRuns]) -> TaskRuns | None:
    """Returns the mean held-out loss over tasks, at the steps where all of them were measured.

    Args:
      tasks: of one ladder; those without any loss are left out. The rest is the first one's.
    """
    tasks = [task for task in tasks if np.any(np.isfinite(task["loss"]))]
    if not tasks:
        return None
    rows = []
    for task in tasks:
        keys = zip(task.names, task["step"], strict=True)
        measured = np.isfinite(task["loss"])
        rows.append({key: row for row, key in enumerate(keys) if measured[row]})
    shared = [key for key in rows[0] if all(key in one for one in rows)]
    where = [[one[key] for key in shared] for one in rows]
    losses = [task["loss"][mine] for task, mine in zip(tasks, where, strict=True)]
    first = tasks[0].select(np.array(where[0], int))
    return dataclasses.replace(first, numbers=first.numbers | {"loss": np.mean(losses, axis=0)})


def read_task_runs(folder: str | os.PathLike) -> list[TaskRuns]:
    """Reads the finished runs of a study's folder, a task after the other."""
    folder = Path(folder)
    return task_runs_of(folder.absolute().name, read_runs(folder))


def task_runs_of(study: str, runs: Sequence[StudyRun]) -> list[TaskRuns]:
    """Returns the measurements of runs by ladder and task."""
    found = []
    for ladder, mine in group_by_ladder(runs).items():
        rows = [row for run in mine for row in _rows(run)]
        for task in sorted({row["task"] for row in rows}):
            head = (study, ladder.kind, ladder.mixture, task)
            found.append(_of_rows(head, [row for row in rows if row["task"] == task]))
    return found


def write_csv(path: str | os.PathLike, tasks: Iterable[TaskRuns]) -> None:
    """Writes measurements as comma-separated values, empty where there is none."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*LABELS, *NUMBERS, *SCORES])
        for task in tasks:
            for row in range(len(task)):
                numbers = [task[name][row] for name in (*NUMBERS, *SCORES)]
                head = [task.study, task.kind, task.mixture, task.task, task.rung[row]]
                writer.writerow(head + ["" if np.isnan(one) else f"{one:.7g}" for one in numbers])


def read_csv(path: str | os.PathLike) -> list[TaskRuns]:
    """Reads what `write_csv` wrote.

    Raises:
      StudyError: the file has other columns, or a cell is no number.
    """
    try:
        return _read_csv(path)
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not a table of values: {error}.") from error


def _read_csv(path: str | os.PathLike) -> list[TaskRuns]:
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, restval="")
        if missing := {*LABELS, *NUMBERS, *SCORES} - {*(reader.fieldnames or ())}:
            raise StudyError(
                f"{path} has no column {', '.join(sorted(missing))}; it must be a file of "
                "`jaxgen backtest --csv`."
            )
        rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for line, row in enumerate(reader, start=2):
            head = tuple(row[name] for name in LABELS[:4])
            try:
                numbers = {n: float(row[n] or "nan") for n in (*NUMBERS, *SCORES)}
            except ValueError as error:
                raise StudyError(f"{path}:{line}: {error}; correct the line.") from error
            rows.setdefault(head, []).append({"rung": row["rung"]} | numbers)
    return [_of_rows(head, of_task) for head, of_task in rows.items()]


def _of_rows(head: tuple[str, ...], rows: Sequence[dict[str, Any]]) -> TaskRuns:
    study, kind, mixture, task = head
    numbers = {
        name: np.array([row.get(name, np.nan) for row in rows], float)
        for name in (*NUMBERS, *SCORES)
    }
    return TaskRuns(study, kind, mixture, task, np.array([row["rung"] for row in rows]), numbers)


def _rows(run: StudyRun) -> list[dict[str, Any]]:
    """Returns the rows of a run: its end, and its checkpoints that were scored."""
    record = run.record
    steps = int(record["steps"])
    curves = _curves(run)
    scored = {int(path.stem): path for path in run.directory.evaluations.glob("[0-9]*.jsonl")
              if path.stem.isdecimal()}  # fmt: skip
    rows = []
    for step in sorted({*scored, *curves, steps}):
        scores = means_by("task", read_rows(scored[step], ANSWER)) if step in scored else {}
        losses = run.losses if step == steps else curves.get(step, {})
        for task in sorted({*scores, *losses}):
            answers = scores.get(task, AnswerMeans(np.nan, np.nan, 0))
            rows.append(
                {
                    "task": task,
                    "rung": run.rung,
                    "seed": run.seed,
                    "step": step,
                    "steps": steps,
                    "parameters": run.parameters["active"],
                    "tokens": record["tokens"] * step / steps,
                    "flops": record["flops"] * step / steps,
                    "loss": losses.get(task, np.nan),
                    "answer_loss": answers.loss,
                    "exact_match": answers.exact_match,
                    "instances": answers.count,
                    "chance": record["evaluation"].get(task, {}).get("chance") or 0.0,
                }
            )
    return rows


def _curves(run: StudyRun) -> dict[int, dict[str, float]]:
    """Returns by step the held-out losses of each task that were measured during training."""
    prefix = "heldout_loss/"
    found = {}
    for row in read_rows(run.directory.metrics_file, ROW):
        losses = {
            name.removeprefix(prefix): loss
            for name, loss in row.items()
            if name.startswith(prefix) and isinstance(loss, int | float)
        }
        if losses:
            found[int(row["step"])] = losses
    return found
