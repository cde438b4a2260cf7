"""The input of this room is a table with one row for each run, task and instance.

The metrics of a row are *paired*: they measure the same output of the same model on the same
question, so that a jump in one can be compared with another. Names are those of evaluation rows.

    {"task": "addition", "instance": "17+25", "seed": 3, "parameters": 1.2e6, "flops": 4e14,
     "exact_match": 1, "token_accuracy": 1.0, "log_probability": -0.21, "answer_tokens": 2}

Scales are `parameters`, `flops`, `tokens` and `loss`, each present in all rows or in none. A *rung*
is a set of runs that differ in the seed alone: those with the same `rung` where rows have that key,
otherwise those with the same parameters, flops and tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.emergence.errors import EmergenceError

AXES = ("parameters", "flops", "tokens", "loss")
REQUIRED = ("exact_match", "token_accuracy", "log_probability", "answer_tokens")
OPTIONAL = ("choice_probability", "brier", "edit_distance")
BOUNDS = {
    "exact_match": (0.0, 1.0),
    "token_accuracy": (0.0, 1.0),
    "log_probability": (-np.inf, 1e-6),
    "answer_tokens": (1.0, np.inf),
    "choice_probability": (0.0, 1.0),
    "brier": (0.0, 2.0),
    "edit_distance": (0.0, np.inf),
}


@dataclasses.dataclass(frozen=True)
class TaskRows:
    """Task rows are all rows of one task, ordered by rung, seed and instance.

    Attributes:
      task: its name.
      chance: exact match of guessing.
      rung: [rows] int, from the smallest scale to the largest.
      seed: [rows] str.
      instance: [rows] str.
      scales: axis -> [rungs], means over a rung's rows.
      metrics: name -> [rows] float.
    """

    task: str
    chance: float
    rung: np.ndarray
    seed: np.ndarray
    instance: np.ndarray
    scales: Mapping[str, np.ndarray]
    metrics: Mapping[str, np.ndarray]

    @property
    def num_rungs(self) -> int:
        return int(self.rung[-1]) + 1

    @property
    def num_instances(self) -> int:
        return len(np.unique(self.instance))

    def scale(self, axis: str) -> np.ndarray:
        """Returns the scale on an axis, [rungs].

        Raises:
          EmergenceError: the rows have no such axis.
        """
        if axis not in self.scales:
            raise EmergenceError(
                f"axis={axis!r} is not among the scales of task {self.task!r}: "
                f"{', '.join(self.scales)}. Give rows that column or take one of these."
            )
        return self.scales[axis]


def read_rows(
    rows: Iterable[Mapping[str, Any]], chance: Mapping[str, float] | None = None
) -> dict[str, TaskRows]:
    """Checks rows of any order and returns them by task.

    Args:
      rows: as in the module's example; further keys are ignored.
      chance: task -> exact match of guessing, 0 for tasks that are not named. A row may have its
        own `chance` instead.

    Raises:
      EmergenceError: there are no rows; a value is missing, not a number or out of bounds; or two
        rows belong to one run and instance.
    """
    rows = list(rows)
    if not rows:
        raise EmergenceError("rows is empty: give at least one row, a mapping a run and instance.")
    axes = [axis for axis in AXES if any(axis in row for row in rows)]
    if not axes:
        raise EmergenceError(f"rows have no scale: each needs one or more of {', '.join(AXES)}.")
    metrics = {name: _numbers(rows, name) for name in REQUIRED}
    for name in OPTIONAL:
        if any(name in row for row in rows):
            metrics[name] = _numbers(rows, name)
    scales = {axis: _numbers(rows, axis) for axis in axes}
    _check_values(rows, metrics, scales)
    task, seed, instance = (_words(rows, name) for name in ("task", "seed", "instance"))
    if strange := sorted(set(chance or {}) - set(task.tolist())):
        raise EmergenceError(
            f"chance names {', '.join(map(repr, strange))}, of which there is no row; tasks are "
            f"{', '.join(map(repr, dict.fromkeys(task.tolist())))}."
        )
    by_task = {}
    for name in dict.fromkeys(task):
        mine = np.flatnonzero(task == name)
        by_task[str(name)] = _task_rows(
            str(name),
            _chance_of(str(name), [rows[place] for place in mine], chance or {}),
            _rungs([rows[place] for place in mine]),
            seed[mine],
            instance[mine],
            {axis: column[mine] for axis, column in scales.items()},
            {metric: column[mine] for metric, column in metrics.items()},
        )
    return by_task


def _task_rows(
    task: str,
    chance: float,
    rung_names: np.ndarray,
    seed: np.ndarray,
    instance: np.ndarray,
    scales: Mapping[str, np.ndarray],
    metrics: Mapping[str, np.ndarray],
) -> TaskRows:
    _, rung = np.unique(rung_names, return_inverse=True)
    means = {axis: np.bincount(rung, column) / np.bincount(rung) for axis, column in scales.items()}
    # By compute where rows have it, since more parameters may mean fewer tokens.
    leading = next(axis for axis in ("flops", *AXES) if axis in means)
    order = np.argsort(means[leading] * (-1 if leading == "loss" else 1), kind="stable")
    rung = np.argsort(order)[rung]
    place = np.lexsort((instance, seed, rung))
    keys = np.stack([rung.astype(str), seed, instance], axis=1)[place]
    twice = np.flatnonzero((keys[1:] == keys[:-1]).all(axis=1))
    if len(twice):
        _, of_seed, of_instance = keys[twice[0]]
        raise EmergenceError(
            f"task {task!r}, seed {of_seed!r}, instance {of_instance!r} has two rows at one scale: "
            "keep one, or name the seeds or instances apart."
        )
    return TaskRows(
        task=task,
        chance=chance,
        rung=rung[place],
        seed=seed[place],
        instance=instance[place],
        scales={axis: mean[order] for axis, mean in means.items()},
        metrics={name: column[place] for name, column in metrics.items()},
    )


def _rungs(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Returns the rung of each row as a string, [rows]."""
    if all("rung" in row for row in rows):
        return np.array([str(row["rung"]) for row in rows])
    of_scale = [axis for axis in AXES if axis != "loss" and axis in rows[0]] or ["loss"]
    return np.array(["|".join(f"{float(row[axis]):.12g}" for axis in of_scale) for row in rows])


def _words(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    for place, row in enumerate(rows):
        if name not in row:
            raise EmergenceError(f"row {place} has no {name!r}: give every row one.")
    return np.array([str(row[name]) for row in rows])


def _numbers(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    values = np.empty(len(rows))
    for place, row in enumerate(rows):
        try:
            values[place] = float(row[name])
        except KeyError:
            raise EmergenceError(
                f"row {place} (task {row.get('task')!r}, instance {row.get('instance')!r}) has no "
                f"{name!r}: paired metrics and scales are needed of every row."
            ) from None
        except (TypeError, ValueError, OverflowError):
            raise EmergenceError(f"row {place} has {name}={row[name]!r}: not a number.") from None
    return values


def _check_values(
    rows: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, np.ndarray],
    scales: Mapping[str, np.ndarray],
) -> None:
    halves = np.flatnonzero((metrics["exact_match"] > 0) & (metrics["exact_match"] < 1))
    if len(halves):
        raise EmergenceError(
            f"row {halves[0]} has exact_match={metrics['exact_match'][halves[0]]:g}: an answer is "
            "exact (1) or not (0). Give a row for each instance, or make Runs of means."
        )
    limits = {**BOUNDS, **dict.fromkeys(AXES, (1e-300, np.inf))}
    for name, column in {**metrics, **scales}.items():
        low, high = limits[name]
        # The log probability of 0 would be minus infinity, and make every mean infinite.
        bad = np.flatnonzero(~(np.isfinite(column) & (column >= low) & (column <= high)))
        if len(bad):
            row = rows[bad[0]]
            bounds = "above 0" if name in scales else f"from {low:g} to {high:g}"
            raise EmergenceError(
                f"row {bad[0]} (task {row.get('task')!r}, instance {row.get('instance')!r}) has "
                f"{name}={column[bad[0]]:g}: it must be finite and {bounds}."
            )


def _chance_of(task: str, rows: Sequence[Mapping[str, Any]], chance: Mapping[str, float]) -> float:
    levels = [row for row in rows if "chance" in row]
    given = set(_numbers(levels, "chance").tolist())
    if len(given) > 1:
        raise EmergenceError(f"task {task!r} has several chance levels, {sorted(given)}: give one.")
    level = given.pop() if given else float(chance.get(task, 0.0))
    if not 0 <= level < 1:
        raise EmergenceError(f"chance={level} of task {task!r} must be at least 0 and below 1.")
    return level
