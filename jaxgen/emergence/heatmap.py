"""Which instances are solved at which scale, and by how many seeds."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.table import TaskRows


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """Data of a picture of instances by scales, easiest first.

    Attributes:
      instances: names, in order.
      rungs: [rungs], the scale of each column.
      solved: [instances, rungs], the share of seeds that answer exactly; not a number where no
        seed was asked.
      first_solved: [instances] int: the first column where `threshold` of the seeds answer; the
        number of columns where none does.
    """

    instances: tuple[str, ...]
    rungs: np.ndarray
    solved: np.ndarray
    first_solved: np.ndarray


def heat_map(rows: TaskRows, axis: str | None = None, threshold: float = 0.5) -> HeatMap:
    """Instances sorted by when they are first solved, then by how often at all.

    Args:
      rows: of a task.
      axis: whose scales head the columns; by default the first that the rows have.
      threshold: share of the seeds that counts as solved.

    Raises:
      EmergenceError: a threshold that no share of seeds can be said to reach.
    """
    if not 0 < threshold <= 1:
        raise EmergenceError(f"threshold={threshold} must be above 0 and at most 1.")
    names, instance = np.unique(rows.instance, return_inverse=True)
    cell = instance * rows.num_rungs + rows.rung
    size = len(names) * rows.num_rungs
    asked = np.bincount(cell, minlength=size).reshape(len(names), -1)
    right = np.bincount(cell, rows.metrics["exact_match"], size).reshape(len(names), -1)
    solved = np.where(asked > 0, right / np.maximum(asked, 1), np.nan)
    scale = rows.scale(axis or next(iter(rows.scales)))
    columns = np.argsort(scale * (-1 if axis == "loss" else 1), kind="stable")
    solved = solved[:, columns]
    is_solved = np.nan_to_num(solved) >= threshold
    first = np.where(is_solved.any(axis=1), is_solved.argmax(axis=1), solved.shape[1])
    order = np.lexsort((names, -np.nansum(solved, axis=1), first))
    return HeatMap(tuple(names[order].tolist()), scale[columns], solved[order], first[order])
