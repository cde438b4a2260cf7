"""From the directories of finished runs to the tables that laws and verdicts are made of.

    runs = read_runs("runs/study")
    table = table_of(runs)                       # a laws.Table: the mean held-out loss over tasks

Only files are read: run.json and config.gin (the seed of the evaluation); the answers are read by
`scored_answers`. Every row keeps the name of its run.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.configuration import load_recorded
from jaxgen.errors import StudyError
from jaxgen.laws import LawError, Table
from jaxgen.runs.run_directory import RunDirectory

COUNTS = ("active", "total", "without_embedding")
"""Senses of a model's number of parameters; the first is a table's own."""


class Ladder(NamedTuple):
    """What runs share that one law may hold for.

    Attributes:
      mixture: the name of what they were trained on.
      kind: "dense" or "sparse".
    """

    mixture: str
    kind: str


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """A finished run.

    Attributes:
      directory: where it is.
      record: what run.json says.
      mixture: the name of what it was trained on.
      evaluation_seed: of the instances that it was judged on.
    """

    directory: RunDirectory
    record: Mapping[str, Any]
    mixture: str
    evaluation_seed: int

    @property
    def name(self) -> str:
        return self.record["name"]

    @property
    def seed(self) -> int:
        return self.record["seed"]

    @property
    def rung(self) -> str:
        """The name without "-seedN"; runs of one rung differ in the seed alone."""
        return rung_of(self.name)

    @property
    def is_sparse(self) -> bool:
        """Some parameters do not take part in computing a token."""
        counts = self.record["parameters"]
        return counts["active"] != counts["total"]

    @property
    def parent(self) -> tuple[str, str] | None:
        """Name and fingerprint of the run whose parameters it began with; None: fresh ones."""
        found = self.record.get("initialized_from")
        return None if found is None else (found["name"], found["fingerprint"])

    @property
    def ladder(self) -> Ladder:
        """The runs that it can be compared with by size."""
        return Ladder(self.mixture, "sparse" if self.is_sparse else "dense")

    @property
    def parameters(self) -> dict[str, int]:
        """By sense: active, total, and active without the embedding."""
        counts = self.record["parameters"]
        without = counts["active"] - counts["embedding"]
        return {k: counts[k] for k in ("active", "total")} | {"without_embedding": without}

    @property
    def unique_tokens(self) -> float:
        """Of the tokens trained on, those that had not been seen before."""
        return unique_tokens(
            self.record["tokens"], self.record.get("shares", {}), self.record.get("epochs", {})
        )

    @property
    def answers_file(self) -> Path:
        """One row an instance, of the last step."""
        return self.directory.evaluations / f"{self.record['steps']:08}.jsonl"

    def loss(self, task: str | None = None) -> float:
        """Held-out loss of a task, or the mean over the tasks that have one; nats a token.

        Raises:
          StudyError: there is none, or it is no number.
        """
        losses = {
            name: scores["loss"]
            for name, scores in self.record["evaluation"].items()
            if scores.get("loss") is not None
        }
        if task is not None and task not in losses:
            raise StudyError(
                f"run {self.name} has no held-out loss of task {task!r}; it has those of "
                f"{', '.join(sorted(losses)) or 'none'}. Choose one of them."
            )
        if not losses:
            raise StudyError(
                f"run {self.name} has no held-out loss in run.json; leave it out of the study, or "
                "train it on a mixture whose tasks have held-out rows."
            )
        chosen = losses if task is None else {task: losses[task]}
        for name, loss in chosen.items():
            if not math.isfinite(loss):
                raise StudyError(
                    f"run {self.name} has loss={loss} of task {name!r}; it diverged: train it "
                    "anew with a lower learning rate, or leave it out."
                )
        return sum(chosen.values()) / len(chosen)


def rung_of(name: str) -> str:
    """A run's name without its seed: "dense-2x64-seed1" or "dense-2x64-seed_1" -> "dense-2x64"."""
    return re.sub(r"-seed_?\d+$", "", name)


def unique_tokens(tokens: float, shares: Mapping[str, float], epochs: Mapping[str, float]) -> float:
    """Of tokens trained on, those seen for the first time.

    Args:
      tokens: of a run.
      shares: of the tokens, by task.
      epochs: how often each task's data were seen; at most 1 is without repetition.
    """
    again = sum(share * (1 - 1 / max(1.0, epochs[task])) for task, share in shares.items())
    return tokens * (1 - again)


def find_directories(folder: str | os.PathLike) -> list[RunDirectory]:
    """Every run of a study's folder, finished or not, by name.

    Raises:
      StudyError: the folder is not there.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise StudyError(f"{folder} is not a folder; name that of a study.")
    return [RunDirectory(path.parent) for path in sorted(folder.glob("*/run.json"))]


def read_runs(folder: str | os.PathLike) -> tuple[StudyRun, ...]:
    """Returns the finished runs of a study's folder, checked to be comparable.

    Unfinished runs are left out, and so are trunks: their learning rate has not decayed.

    Raises:
      StudyError: no run is finished, or see `check_runs`.
    """
    finished = [
        one
        for one in find_directories(folder)
        if one.is_finished() and not one.read_record().get("is_trunk")
    ]
    if not finished:
        raise StudyError(
            f"{Path(folder).absolute()} has no finished run; name the folder whose folders are "
            "runs, or start the study again to finish them."
        )
    return check_runs(finished)


def check_runs(directories: Sequence[RunDirectory]) -> tuple[StudyRun, ...]:
    """Finished runs that can stand in one table, smallest first.

    Raises:
      StudyError: a run that is not finished; one run twice; several seeds of evaluation.
    """
    runs = []
    for directory in directories:
        record = directory.read_record()
        if not record.get("finished"):
            raise StudyError(f"{directory.path} is not finished; start its run again first.")
        config = load_recorded(directory.config_file)
        runs.append(StudyRun(directory, record, config.mixture.name, config.evaluation.seed))
    first: dict[tuple[str, int], StudyRun] = {}
    for run in runs:
        other = first.setdefault((run.rung, run.seed), run)
        if other is not run:
            raise StudyError(
                f"{other.directory.path} and {run.directory.path} are one run twice (rung "
                f"{run.rung!r}, seed {run.seed}); keep one of them in the study."
            )
    seeds = {run.evaluation_seed: run.name for run in runs}
    if len(seeds) > 1:
        said = ", ".join(f"{seed} in {name}" for seed, name in sorted(seeds.items()))
        raise StudyError(
            f"runs differ in evaluation.seed ({said}): they answered other questions. Judge them "
            "with the same seed."
        )
    return tuple(sorted(runs, key=lambda run: (run.record["flops"], run.rung, run.seed)))


def group_by_ladder(runs: Sequence[StudyRun]) -> dict[Ladder, list[StudyRun]]:
    """Runs of one mixture and kind together: mixtures by name, dense runs before sparse ones.

    Those that began with the parameters of another run are left out: neither their FLOPs nor their
    tokens made them what they are alone.
    """
    found: dict[Ladder, list[StudyRun]] = {}
    fresh = [run for run in runs if run.parent is None]
    for run in sorted(fresh, key=lambda run: run.ladder):
        found.setdefault(run.ladder, []).append(run)
    return found


def table_of(
    runs: Sequence[StudyRun], task: str | None = None, parameters: str = COUNTS[0]
) -> Table:
    """Runs as the table that laws are fitted on.

    The three counts of parameters are columns of it too, and `unique_tokens`.

    Args:
      runs: of a study.
      task: whose held-out loss; the mean over tasks by default.
      parameters: the sense of the table's own `parameters`, one of COUNTS.

    Raises:
      StudyError: an unknown sense, no runs, or a loss that is missing or no number.
    """
    if parameters not in COUNTS:
        raise StudyError(f"parameters={parameters!r} must be one of {', '.join(COUNTS)}.")
    counts = {name: np.array([run.parameters[name] for run in runs]) for name in COUNTS}
    try:
        return Table(
            parameters=counts[parameters],
            tokens=np.array([run.record["tokens"] for run in runs]),
            loss=np.array([run.loss(task) for run in runs]),
            flops=np.array([run.record["flops"] for run in runs]),
            seeds=np.array([run.seed for run in runs]),
            runs=np.array([run.name for run in runs]),
            extra=counts | {"unique_tokens": np.array([run.unique_tokens for run in runs])},
        )
    except LawError as error:
        raise StudyError(f"the runs make no table: {error}") from error
