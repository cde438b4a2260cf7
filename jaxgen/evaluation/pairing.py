"""The difference that something makes, over instances that were scored with it and without."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from jaxgen.errors import DataError
from jaxgen.evaluation.base import Row
from jaxgen.evaluation.metrics import mean_interval


@dataclasses.dataclass(frozen=True)
class Difference:
    """A mean difference with its 95 % interval over instances.

    Attributes:
      before: the mean without.
      after: the mean with.
      mean: of the differences.
      low: of the interval.
      high: of the interval.
      count: instances.
    """

    before: float
    after: float
    mean: float
    low: float
    high: float
    count: int

    @property
    def is_clear(self) -> bool:
        """Returns whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def paired_difference(
    before: Sequence[Iterable[Row]], after: Sequence[Iterable[Row]], metric: str
) -> Difference:
    """Returns the difference of a metric between runs, instance by instance.

    The interval is a bootstrap over instances, each with its mean over the runs, so that instances
    that are hard for all do not widen it. What another seed would give is in it only as far as runs
    of several seeds are.

    Args:
      before: the rows of runs, one for each seed.
      after: the rows of the runs to compare with, with the same instances.
      metric: a column; rows without it are left out.

    Raises:
      DataError: if the two have unlike instances, or none.
    """
    means = [_means([_by_instance(rows, metric) for rows in runs]) for runs in (before, after)]
    if means[0].keys() != means[1].keys() or not means[0]:
        missing = len(means[0].keys() ^ means[1].keys())
        raise DataError(
            f"{metric} was not scored on the same instances: {missing} are on one side alone, "
            f"{len(means[0].keys() & means[1].keys())} on both; evaluate both alike."
        )
    names = sorted(means[0])
    first, second = (np.array([one[name] for name in names]) for one in means)
    low, high = mean_interval(second - first)
    return Difference(
        float(first.mean()), float(second.mean()), float((second - first).mean()), low, high,
        len(names),
    )  # fmt: skip


def _by_instance(rows: Iterable[Row], metric: str) -> dict[tuple[str, str, int], float]:
    """Returns the metric by task, instance and how often that was asked before."""
    found: dict[tuple[str, str, int], float] = {}
    asked: collections.Counter[tuple[str, str]] = collections.Counter()
    for row in rows:
        key = str(row["task"]), str(row["instance"])
        asked[key] += 1
        if metric in row:
            found[*key, asked[key]] = float(row[metric])
    return found


def _means(runs: Sequence[dict[tuple[str, str, int], float]]) -> dict[tuple[str, str, int], float]:
    """Returns the mean over runs of each instance that any of them has."""
    values: dict[tuple[str, str, int], list[float]] = collections.defaultdict(list)
    for run in runs:
        for name, value in run.items():
            values[name].append(value)
    return {name: float(np.mean(some)) for name, some in values.items()}
