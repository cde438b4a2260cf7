"""The order of a mixture's tasks, in which every prefix has each task's share.

After n rows a task of share w has more than w * n - 1 and fewer than w * n + 1 of them, for any
share; neither random draws nor rounding by batches would achieve that. Row n goes to the task whose
next row is due first, among those whose next row is not too early: the j-th row of a task may stand
at n in [floor((j - 1) / w) + 1, ceil(j / w)]. That earliest deadlines first meet all of them is
known of such windows (Baruah et al., Proportionate progress, 1996).
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

BLOCK = 2**14
"""Rows computed at once."""
KEPT = 8
"""Blocks that are kept in memory."""
MAX_PERIOD = 2**22
"""Sequences that repeat after this many rows or fewer allow random access."""
RESOLUTION = 2**40
"""The denominator of shares that are not simple fractions."""


def as_written(weight: float) -> Fraction:
    """Returns a weight as the decimal that it is written as: 0.1 is a tenth."""
    return Fraction(repr(float(weight)))


def whole_parts(shares: Sequence[Fraction]) -> list[int]:
    """Returns positive shares as whole numbers in the same proportion.

    Where that would take numbers beyond RESOLUTION they are rounded to as many parts, each at
    least one.
    """
    total = sum(shares)
    shares = [share / total for share in shares]
    denominator = math.lcm(*(share.denominator for share in shares))
    if denominator > RESOLUTION:
        parts = [max(1, round(share * RESOLUTION)) for share in shares]
    else:
        parts = [int(share * denominator) for share in shares]
    divisor = math.gcd(*parts)
    return [part // divisor for part in parts]


class Interleaving:
    """The tasks of rows 0, 1, 2 and so on, without end."""

    def __init__(self, parts: Sequence[int]):
        """Takes shares as whole numbers; see `whole_parts`."""
        self._parts = list(parts)
        self._total = sum(parts)
        self._counts = [[0] * len(parts)]
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def rows(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the tasks of rows [start, stop) and their indices in the task, both int64."""
        tasks, indices = [], []
        while start < stop:
            period, place = self._place(start)
            block, offset = divmod(place, BLOCK)
            taken = min(stop - start, BLOCK - offset, self._length(block) - offset)
            of_block, index = self._block(block)
            cut = slice(offset, offset + taken)
            tasks.append(of_block[cut])
            indices.append(index[cut] + period * np.array(self._parts)[of_block[cut]])
            start += taken
        if not tasks:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate(tasks), np.concatenate(indices)

    def counts(self, stop: int) -> list[int]:
        """Returns the number of each task's rows among rows [0, stop)."""
        period, place = self._place(stop)
        block, offset = divmod(place, BLOCK)
        counts = np.array(self._counts_before(block)) + period * np.array(self._parts)
        if offset:
            counts += np.bincount(self._block(block)[0][:offset], minlength=len(counts))
        return counts.tolist()

    def row_of(self, task: int, index: int) -> int:
        """Returns the row that is a task's row of this index."""
        low = self.earliest(task, index)
        high = (index + 1) * self._total // self._parts[task] + 2
        return low + bisect.bisect_right(
            range(low, high), index, key=lambda row: self.counts(row + 1)[task]
        )

    def earliest(self, task: int, index: int) -> int:
        """Returns a row that is not after `row_of`, at no cost."""
        return index * self._total // self._parts[task]

    def _place(self, row: int) -> tuple[int, int]:
        return divmod(row, self._total) if self._total <= MAX_PERIOD else (0, row)

    def _length(self, block: int) -> int:
        """Returns the number of a block's rows before the sequence repeats."""
        return self._total - block * BLOCK if self._total <= MAX_PERIOD else BLOCK

    def _counts_before(self, block: int) -> list[int]:
        while len(self._counts) <= block:
            self._block(len(self._counts) - 1)
        return self._counts[block]

    def _block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        if block not in self._kept:
            computed = self._compute(block)
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[block] = computed
        return self._kept[block]

    def _compute(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        parts, total = self._parts, self._total
        counts = list(self._counts_before(block))
        ready: list[tuple[int, int]] = []
        waiting: list[tuple[int, int]] = []

        def queue(task: int, now: int) -> None:
            begin = counts[task] * total // parts[task] + 1
            due = -(-(counts[task] + 1) * total // parts[task])
            if begin <= now:
                heapq.heappush(ready, (due, task))
            else:
                heapq.heappush(waiting, (begin, task))

        first = block * BLOCK + 1
        for task in range(len(parts)):
            queue(task, first)
        tasks, indices = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
        for offset in range(BLOCK):
            now = first + offset
            while waiting and waiting[0][0] <= now:
                task = heapq.heappop(waiting)[1]
                heapq.heappush(ready, (-(-(counts[task] + 1) * total // parts[task]), task))
            task = heapq.heappop(ready)[1]
            tasks[offset], indices[offset] = task, counts[task]
            counts[task] += 1
            queue(task, now + 1)
        if len(self._counts) == block + 1:
            self._counts.append(counts)
        return tasks, indices
