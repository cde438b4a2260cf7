"""The finished runs of a study, read from their directories, and the table that laws are fitted to.

    runs = read_runs("runs/study")
    table = table_of(runs)                       # a laws.Table: the mean held-out loss over tasks

Only run.json and config.gin are read; `scored_answers` reads the answers. Every row of a table
keeps the name of its run.
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
"""Ways to count a model's parameters; a table uses the first by default."""
LEAST_LOSS = 1e-6
"""Smaller losses count as this one: they are noise of float32, and 0 has no logarithm."""


class Ladder(NamedTuple):
    """Runs that a single law may describe: one mixture, all dense or all sparse.

    Attributes:
      mixture: the name of the mixture that they were trained on.
      kind: "dense" or "sparse".
    """

    mixture: str
    kind: str


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """A finished run.

    Attributes:
      directory: its files.
      record: the content of run.json.
      mixture: the name of the mixture that it was trained on.
      evaluation_seed: the seed of the instances that it was evaluated on.
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
        """Returns the name without "-seedN"; runs of one rung differ in the seed alone."""
        return rung_of(self.name)

    @property
    def is_sparse(self) -> bool:
        """Returns whether some parameters take no part in computing a token."""
        counts = self.record["parameters"]
        return counts["active"] != counts["total"]

    @property
    def parent(self) -> tuple[str, str] | None:
        """Returns name and fingerprint of the run that it was initialised from, or None."""
        found = self.record.get("initialized_from")
        return None if found is None else (found["name"], found["fingerprint"])

    @property
    def ladder(self) -> Ladder:
        """Returns the ladder of the runs that it can be compared with by size."""
        return Ladder(self.mixture, "sparse" if self.is_sparse else "dense")

    @property
    def parameters(self) -> dict[str, int]:
        """Returns the active and total parameters, and the active ones without the embedding."""
        counts = self.record["parameters"]
        without = counts["active"] - counts["embedding"]
        return {k: counts[k] for k in ("active", "total")} | {"without_embedding": without}

    @property
    def unique_tokens(self) -> float:
        """Returns the number of training tokens that were seen for the first time."""
        return unique_tokens(
            self.record["tokens"], self.record.get("shares", {}), self.record.get("epochs", {})
        )

    @property
    def answers_file(self) -> Path:
        """Returns the file with one row for each instance, from the evaluation of the last step."""
        return self.directory.evaluation_file(self.record["steps"])

    @property
    def losses(self) -> dict[str, float]:
        """Returns the held-out losses by task, of those that have one."""
        return {
            name: scores["loss"]
            for name, scores in self.record["evaluation"].items()
            if scores.get("loss") is not None
        }

    @property
    def has_no_loss(self) -> bool:
        """Returns whether it was tuned on what has no held-out loss, such as rewards."""
        return self.parent is not None and not self.losses

    def loss(self, task: str | None = None) -> float:
        """Returns the held-out loss of a task, or the mean over all tasks, in nats/token.

        It is LEAST_LOSS where it is smaller.

        Raises:
          StudyError: there is none, or it is no number.
        """
        losses = self.losses
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
                    "again with a lower learning rate, or leave it out."
                )
        return max(sum(chosen.values()) / len(chosen), LEAST_LOSS)


def rung_of(name: str) -> str:
    """Returns a run's name without its seed: "a-seed1" or "a-seed_1" -> "a"."""
    return re.sub(r"-seed_?\d+$", "", name)


def unique_tokens(tokens: float, shares: Mapping[str, float], epochs: Mapping[str, float]) -> float:
    """Returns the number of training tokens that were seen for the first time.

    Args:
      tokens: of the run.
      shares: of the tokens, by task.
      epochs: over each task's data; up to 1, nothing is repeated.
    """
    again = sum(s * (1 - 1 / max(1.0, epochs.get(task, 1.0))) for task, s in shares.items())
    return tokens * (1 - again)


def find_directories(folder: str | os.PathLike) -> list[RunDirectory]:
    """Returns every run of a study's folder, finished or not, by name.

    Raises:
      StudyError: the folder does not exist.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise StudyError(f"{folder} is not a folder; name that of a study.")
    return [RunDirectory(path.parent) for path in sorted(folder.glob("*/run.json"))]


def read_runs(folder: str | os.PathLike) -> tuple[StudyRun, ...]:
    """Reads the finished runs of a study's folder, and checks that they are comparable.

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
    """Reads finished runs and checks that they can be compared; returns them smallest first.

    Raises:
      StudyError: a run is not finished, or appears twice, or has another evaluation seed.
    """
    runs = []
    for directory in directories:
        if not directory.is_finished():
            raise StudyError(f"{directory.path} is not finished; start its run again first.")
        record = directory.read_finished()
        config = load_recorded(directory.config_file)
        runs.append(StudyRun(directory, record, config.mixture.name, config.evaluation.seed))
    first: dict[tuple[str, int], StudyRun] = {}
    for run in runs:
        other = first.setdefault((run.rung, run.seed), run)
        if other is not run:
            raise StudyError(
                f"{other.directory.path} and {run.directory.path} are the same run twice (rung "
                f"{run.rung!r}, seed {run.seed}); keep one of them in the study."
            )
    seeds = {run.evaluation_seed: run.name for run in runs}
    if len(seeds) > 1:
        listed = ", ".join(f"{seed} in {name}" for seed, name in sorted(seeds.items()))
        raise StudyError(
            f"runs differ in evaluation.seed ({listed}), so they answered different questions. "
            "Evaluate them with the same seed."
        )
    return tuple(sorted(runs, key=lambda run: (run.record["flops"], run.rung, run.seed)))


def group_by_ladder(runs: Sequence[StudyRun]) -> dict[Ladder, list[StudyRun]]:
    """Groups runs by ladder: mixtures by name, dense runs before sparse ones.

    Runs that were initialised from another run are left out, because their FLOPs and tokens are not
    all that made them.
    """
    found: dict[Ladder, list[StudyRun]] = {}
    fresh = [run for run in runs if run.parent is None]
    for run in sorted(fresh, key=lambda run: run.ladder):
        found.setdefault(run.ladder, []).append(run)
    return found


def table_of(
    runs: Sequence[StudyRun], task: str | None = None, parameters: str = COUNTS[0]
) -> Table:
    """Returns runs as the table that laws are fitted to.

    It also has the three parameter counts and `unique_tokens` as columns.

    Args:
      runs: of a study.
      task: the task whose held-out loss is used; by default the mean over tasks.
      parameters: which count the column `parameters` has, one of COUNTS.

    Raises:
      StudyError: an unknown count, no runs, or a loss that is missing or not finite.
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
