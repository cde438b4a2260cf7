"""The schedule of a mixture: the task of each row, where shares change and tasks end."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from jaxgen.data.shares import Interleaving, whole_parts


@dataclasses.dataclass(frozen=True)
class ShareStage:
    """The shares of the tasks from a row on.

    Attributes:
      first_row: the first row of the mixture with these shares.
      shares: the share of each task, up to a common factor; 0 gives a task nothing.
    """

    first_row: int
    shares: tuple[Fraction, ...]


@dataclasses.dataclass(frozen=True)
class _Segment:
    """Rows between two changes.

    Attributes:
      first_row: the first of the rows, counted in the mixture.
      before: number of rows of each task before it.
      tasks: the tasks that take part; none after the last row.
      interleaving: the order of these tasks; None after the last row.
    """

    first_row: int
    before: np.ndarray
    tasks: np.ndarray
    interleaving: Interleaving | None

    def counts(self, stop: int) -> np.ndarray:
        """Returns the number of each task's rows among rows [0, stop) of the mixture."""
        counts = self.before.copy()
        if self.interleaving is not None:
            counts[self.tasks] += self.interleaving.counts(stop - self.first_row)
        return counts


class RowSchedule:
    """The task of each row, as a function of the row that is computed only as far as needed.

    A task that has no rows left is left out from there on, and the others keep their
    proportions.
    """

    def __init__(self, stages: Sequence[ShareStage], limits: Sequence[int | None]):
        """Takes the stages from row 0 on, and the number of rows of each task (None: no end)."""
        self._stages = list(stages)
        self._limits = list(limits)
        self._segments = [self._segment(0, np.zeros(len(limits), np.int64))]

    def rows(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the tasks of rows [start, stop) and their indices among the task's rows, int64.

        Past the end of all tasks there are none.
        """
        tasks, indices = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        while start < stop:
            segment, end = self._covering(start)
            if segment.interleaving is None:
                break
            until = stop if end is None else min(stop, end)
            task, index = segment.interleaving.rows(
                start - segment.first_row, until - segment.first_row
            )
            tasks.append(segment.tasks[task])
            indices.append(index + segment.before[tasks[-1]])
            start = until
        return np.concatenate(tasks), np.concatenate(indices)

    def counts(self, stop: int) -> list[int]:
        """Returns the number of each task's rows among rows [0, stop)."""
        return self._covering(max(stop - 1, 0))[0].counts(stop).tolist()

    def num_rows(self, enough: int) -> int:
        """Returns the number of rows, or `enough` if there are as many."""
        segment, _ = self._covering(enough)
        return enough if segment.interleaving is not None else min(enough, segment.first_row)

    def _covering(self, row: int) -> tuple[_Segment, int | None]:
        """Returns the segment that contains a row, and a row that the segment surely reaches."""
        while True:
            firsts = [segment.first_row for segment in self._segments]
            place = bisect.bisect_right(firsts, row) - 1
            segment = self._segments[place]
            if place + 1 < len(self._segments):
                return segment, self._segments[place + 1].first_row
            # The exact end needs all rows before it.
            for is_exact in (False, True):
                end = self._end(segment, is_exact)
                if end is None or row < end:
                    return segment, end
            assert end is not None
            self._segments.append(self._segment(end, segment.counts(end)))

    def _segment(self, first_row: int, before: np.ndarray) -> _Segment:
        stage = [stage for stage in self._stages if stage.first_row <= first_row][-1]
        tasks = [
            task
            for task, (share, limit) in enumerate(zip(stage.shares, self._limits, strict=True))
            if share > 0 and (limit is None or before[task] < limit)
        ]
        parts = whole_parts([stage.shares[task] for task in tasks]) if tasks else []
        interleaving = Interleaving(parts) if tasks else None
        return _Segment(first_row, before, np.array(tasks, np.int64), interleaving)

    def _end(self, segment: _Segment, is_exact: bool) -> int | None:
        """Returns the row at which a stage begins or a task has ended, or one before it."""
        ends = [stage.first_row for stage in self._stages if stage.first_row > segment.first_row]
        for place, task in enumerate(segment.tasks):
            limit = self._limits[task]
            if limit is not None and segment.interleaving is not None:
                last = limit - int(segment.before[task]) - 1
                find = segment.interleaving.row_of if is_exact else segment.interleaving.earliest
                ends.append(segment.first_row + find(place, last) + 1)
        return min(ends, default=None)
