"""A task's rows averaged over instances give one value a run and metric.

Published tables often contain no more than this, so all that does not need single instances is
computed from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxgen.emergence.checks import (
    PER_TOKEN,
    check_chance,
    check_lengths,
    check_metric,
    check_runs_apart,
    check_scale,
    numbers,
    whole_numbers,
)
from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.table import TaskRows


@dataclasses.dataclass(frozen=True)
class Runs:
    """Runs have the means of a task's metrics, one value a run; lists become arrays.

    Attributes:
      task: its name.
      chance: exact match of guessing, from 0 to below 1.
      scale: [rungs] sizes, positive, from the smallest model to the largest: rising, or falling on
        the axis "loss"; in the unit of the axis.
      axis: the name of the axis.
      rung: [runs] int, index into `scale`.
      seed: [runs] str, a name that no other run of the rung has.
      instances: [runs] float, number of instances that the means are over.
      metrics: name -> [runs]; among them "exact_match" (a share) and "log_probability_per_token"
        (nats, at most 0).

    Raises:
      EmergenceError: what `checks` finds wrong, one message for each fault.
    """

    task: str
    chance: float
    scale: np.ndarray
    axis: str
    rung: np.ndarray
    seed: np.ndarray
    instances: np.ndarray
    metrics: Mapping[str, np.ndarray]

    def __post_init__(self):
        columns = {"instances": self.instances, **self.metrics}
        columns = {name: numbers(column, name, self.task) for name, column in columns.items()}
        checked = {
            "scale": numbers(self.scale, "scale", self.task),
            "rung": whole_numbers(self.rung, "rung", self.task),
            "seed": np.asarray(self.seed).astype(str),
            "instances": columns.pop("instances"),
            "metrics": columns,
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        check_chance(self.chance, self.task)
        check_scale(self.scale, self.axis, self.task)
        of_runs = {"rung": self.rung, "seed": self.seed, "instances": self.instances}
        check_lengths(of_runs | columns, self.task)
        if not np.array_equal(np.unique(self.rung), np.arange(len(self.scale))):
            raise EmergenceError(
                f"rungs of task {self.task!r} must be 0 to {len(self.scale) - 1}, each with a run."
            )
        if self.instances.min() < 1:
            raise EmergenceError(
                f"instances={self.instances.min():g} of task {self.task!r}: give the number of "
                "questions that a run's means are over."
            )
        for name, column in columns.items():
            check_metric(name, column, self.task)
        check_runs_apart(self.scale, self.rung, self.seed, columns, self.task)

    @property
    def log_scale(self) -> np.ndarray:
        """Returns the log of the scale [rungs], or its negative for a loss, so that it rises."""
        return np.log(self.scale) * (-1 if self.axis == "loss" else 1)

    @property
    def seeds(self) -> np.ndarray:
        """Returns the number of runs of each rung, [rungs] int."""
        return np.bincount(self.rung)

    def of_rung(self, metric: str, rung: int) -> np.ndarray:
        """Returns a metric of the runs of a rung, [seeds]."""
        return self.metric(metric)[self.rung == rung]

    def means(self, metric: str) -> np.ndarray:
        """Returns a metric's means over seeds, [rungs]."""
        return np.bincount(self.rung, self.metric(metric)) / self.seeds

    def keep(self, is_kept: np.ndarray) -> Runs:
        """Returns the runs for which `is_kept` [runs] is true; every rung needs one."""
        return dataclasses.replace(
            self,
            rung=self.rung[is_kept],
            seed=self.seed[is_kept],
            instances=self.instances[is_kept],
            metrics={name: column[is_kept] for name, column in self.metrics.items()},
        )

    def metric(self, name: str) -> np.ndarray:
        """Returns a metric, [runs].

        Raises:
          EmergenceError: the task has no such metric.
        """
        if name not in self.metrics:
            raise EmergenceError(
                f"metric={name!r} is not among those of task {self.task!r}: "
                f"{', '.join(self.metrics)}."
            )
        return self.metrics[name]


def average_runs(rows: TaskRows, axis: str | None = None) -> Runs:
    """Averages a task's rows to runs along an axis, by default the first that it has.

    The log probability per token is the sum over all answers divided by their number of tokens.
    """
    axis = axis or next(iter(rows.scales))
    keys = np.stack([rows.rung.astype(str), rows.seed], axis=1)
    _, first, run = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    run = run.ravel()
    count = np.bincount(run)
    metrics = {name: np.bincount(run, column) / count for name, column in rows.metrics.items()}
    metrics[PER_TOKEN] = metrics["log_probability"] / metrics["answer_tokens"]
    # The exact match of a run whose tokens were correct independently and equally often (Schaeffer
    # et al., 2023).
    accuracy = metrics["token_accuracy"][run]
    metrics["independent_tokens"] = (
        np.bincount(run, accuracy ** rows.metrics["answer_tokens"]) / count
    )
    order = np.argsort(rows.scale(axis) * (-1 if axis == "loss" else 1), kind="stable")
    return Runs(
        task=rows.task,
        chance=rows.chance,
        scale=rows.scale(axis)[order],
        axis=axis,
        rung=np.argsort(order)[rows.rung[first]],
        seed=rows.seed[first],
        instances=count.astype(np.float64),
        metrics=metrics,
    )
