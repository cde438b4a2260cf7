"""Rows of examples that are made on the spot: no store, no search, any row by its index."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from jaxgen.data.draws import Draws
from jaxgen.data.hashing import permutation
from jaxgen.data.packing import Row, RowShape, as_one, check_longest, pack_row
from jaxgen.data.protocols import Epoch, Split
from jaxgen.data.segments import Segment, example_segment, sizes_of
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError

SAMPLED = 256
"""Examples whose lengths decide how rows are made."""
EXAMPLES_AT_ONCE = 128
"""The least number of equally long examples in a block; making many costs little more than one."""
ROWS_AT_ONCE = 16
SHARE_FILLED = 0.93
"""The share of rows that unequal examples fill; the rest lets nearly every example find a row."""


class GeneratedRows:
    """Examples made on the spot. The first epoch needs no shuffling.

    Later ones have the same rows: blocks in another order, and the rows of each block, so that a
    block is made once an epoch. What preprocessors draw is drawn anew for each.

    Of equally long examples as many as fit make a row, in their order. Others are taken in blocks:
    a fixed number of examples, put into `ROWS_AT_ONCE` rows, longest first into the emptiest row.
    The number does not depend on the examples' lengths, so short ones are hardly preferred; one
    that fits nowhere is left out, which is rare where a row holds ten or more.
    """

    def __init__(self, task: Task, shape: RowShape, seed: int, split: Split):
        if task.features.denoising is not None and task.features.is_split:
            raise DataError(
                "records that are made by index are kept whole: a denoising of documents is for "
                "stored texts; masks of whole examples are set by prompt_answer.denoising."
            )
        self._task, self._shape, self._seed = task, shape, (seed, task.name)
        self._draws_seed = seed if task.draws and split == "train" else None
        self._records = task.records_by_index(split)
        sizes = sizes_of(self._segments(range(min(SAMPLED, len(self._records)))))
        check_longest(task.name, sizes, shape)
        self._are_equal = all((size == size[0]).all() for size in sizes)
        if self._are_equal:
            fitting = [shape.length // int(sizes[0][0])]
            if shape.source_length is not None:
                fitting.append(shape.source_length // int(sizes[1][0]))
            self._rows_at_once = -(-EXAMPLES_AT_ONCE // min(fitting))
            self._examples_at_once = min(fitting) * self._rows_at_once
        else:
            one, capacity = as_one(sizes, shape)
            filling = SHARE_FILLED * ROWS_AT_ONCE * capacity / float(np.mean(one))
            self._rows_at_once = ROWS_AT_ONCE
            self._examples_at_once = max(ROWS_AT_ONCE, int(filling))
        self.examples_per_epoch = len(self._records)
        self.rows_per_epoch = len(self._records) * self._rows_at_once // self._examples_at_once
        if not self.rows_per_epoch:
            raise DataError(
                f"task {task.name}: num_examples={len(self._records)} do not fill one row; make it "
                "larger."
            )
        offered = self._rows_at_once * (shape.length + (shape.source_length or 0))
        first = self._in_rows(self._segments(range(self._examples_at_once)))
        used = sum(int(np.sum(size)) for row in first for size in sizes_of(row))
        self.share_used = used / offered
        self._first = int(permutation(2**16, *self._seed, "first")[0])
        self._block: tuple[tuple[int, int], list[list[Segment]]] | None = None
        self._epoch: tuple[int, np.ndarray] | None = None

    def row(self, index: int) -> Row:
        """Returns the row of an index; each seed has its epoch at a place of one long sequence."""
        epoch, place = divmod(index, self.rows_per_epoch)
        number = self._first * self.rows_per_epoch + self._place(epoch, place)
        block, place = divmod(number, self._rows_at_once)
        made = self._block  # Threads may read other blocks meanwhile.
        if made is None or made[0] != (epoch, block):
            first = block * self._examples_at_once
            segments = self._segments(range(first, first + self._examples_at_once), epoch)
            made = self._block = ((epoch, block), self._in_rows(segments))
        return pack_row(made[1][place], self._shape, self._task.codec.pad_id)

    def _place(self, epoch: int, place: int) -> int:
        """Returns the place in the first epoch of the row that has this place in another."""
        if epoch == 0:
            return place
        ordered = self._epoch
        if ordered is None or ordered[0] != epoch:
            start = self._first * self.rows_per_epoch
            block = np.arange(start, start + self.rows_per_epoch) // self._rows_at_once
            block -= block[0]
            blocks = permutation(int(block[-1]) + 1, *self._seed, "blocks", epoch)
            rows = permutation(self.rows_per_epoch, *self._seed, "rows", epoch)
            ordered = self._epoch = (epoch, np.lexsort((rows, blocks[block])))
        return int(ordered[1][place])

    def _in_rows(self, segments: list[Segment]) -> list[list[Segment]]:
        sizes = sizes_of(segments)
        check_longest(self._task.name, sizes, self._shape)
        one, capacity = as_one(sizes, self._shape)
        in_row = self._examples_at_once // self._rows_at_once
        if self._are_equal and max(one) * in_row <= capacity:
            return [segments[first : first + in_row] for first in range(0, len(segments), in_row)]
        rows: list[list[Segment]] = [[] for _ in range(self._rows_at_once)]
        left = np.full(self._rows_at_once, capacity, np.int64)
        for place in np.argsort(-one, kind="stable"):
            emptiest = int(np.argmax(left))
            if one[place] <= left[emptiest]:
                rows[emptiest].append(segments[place])
                left[emptiest] -= one[place]
        return rows

    def _segments(self, indices: Iterable[int], number: int = 0) -> list[Segment]:
        indices, task = list(indices), self._task
        seed = self._draws_seed
        epoch = None if seed is None else Epoch(seed, task.name, number)
        records = task.processed(self._records.__getitems__(indices), epoch)
        examples = task.encode(records, self._shape.has_source)
        if len(examples) != len(indices):
            raise DataError(
                "its preprocessors make fewer or more records than the source, which is allowed "
                "for stored records only."
            )
        has_source, denoising = self._shape.has_source, task.features.denoising
        if denoising is None:
            return [example_segment(example, task.codec, has_source) for example in examples]
        each = [Draws(*self._seed, "masks", number, index) for index in indices]
        return [
            denoising.segment(example.ids, task.codec, draws, has_source)._replace(
                media=example.media
            )
            for example, draws in zip(examples, each, strict=True)
        ]
