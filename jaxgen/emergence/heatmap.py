"""The heat map shows which instances are solved at which scale, and by how many seeds."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.table import TaskRows


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """Instances by scales, easiest instance first.

    Attributes:
      instances: names, in order.
      rungs: [rungs] the scale of each column.
      solved: [instances, rungs] the share of seeds that answer exactly; NaN where no seed has an
        answer.
      first_solved: [instances] int, the first column where `threshold` of the seeds answer
        exactly; the number of columns if there is none.
    """

    instances: tuple[str, ...]
    rungs: np.ndarray
    solved: np.ndarray
    first_solved: np.ndarray


def heat_map(rows: TaskRows, axis: str | None = None, threshold: float = 0.5) -> HeatMap:
    """Sorts instances by the scale that first solves them, then by how often they are solved.

    Args:
      rows: the rows of a task.
      axis: the axis of the columns; by default the first that the rows have.
      threshold: share of the seeds that counts as solved.

    Raises:
      EmergenceError: the threshold is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise EmergenceError(f"threshold={threshold} must be above 0 and at most 1.")
    names, instance = np.unique(rows.instance, return_inverse=True)
    cell = instance * rows.num_rungs + rows.rung
    size = len(names) * rows.num_rungs
    answers = np.bincount(cell, minlength=size).reshape(len(names), -1)
    exact = np.bincount(cell, rows.metrics["exact_match"], size).reshape(len(names), -1)
    solved = np.where(answers > 0, exact / np.maximum(answers, 1), np.nan)
    scale = rows.scale(axis or next(iter(rows.scales)))
    columns = np.argsort(scale * (-1 if axis == "loss" else 1), kind="stable")
    solved = solved[:, columns]
    is_solved = np.nan_to_num(solved) >= threshold
    first = np.where(is_solved.any(axis=1), is_solved.argmax(axis=1), solved.shape[1])
    order = np.lexsort((names, -np.nansum(solved, axis=1), first))
    return HeatMap(tuple(names[order].tolist()), scale[columns], solved[order], first[order])
