"""Rows of a fixed length, packed from examples, by random access.

Row r is a function of (task, seed, r). Documents are laid end to end in an order drawn anew each
epoch and cut into rows; examples with answers are put whole into rows, and the rows are drawn anew
each epoch. Attention and positions are kept apart by segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jaxgen.data.hashing import permutation
from jaxgen.data.sources import Records
from jaxgen.data.tasks import Example, Task, read_records
from jaxgen.data.token_cache import TokenStore
from jaxgen.errors import DataError

Row = dict[str, np.ndarray]


class Rows(Protocol):
    """The rows of a task, without end."""

    @property
    def rows_per_epoch(self) -> int: ...

    def row(self, index: int) -> Row:
        """The row of any index from 0: the fields of `Batch` but task_ids, each [length]."""
        ...


def pack_row(parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], length: int, pad: int):
    """Segments, each (inputs, targets, weights), as one padded row."""
    row: Row = {
        "tokens": np.full(length, pad, np.int32),
        "targets": np.full(length, pad, np.int32),
        "loss_weights": np.zeros(length, np.float32),
        "positions": np.zeros(length, np.int32),
        "segment_ids": np.zeros(length, np.int32),
    }
    start = 0
    for segment, (inputs, targets, weights) in enumerate(parts, start=1):
        end = start + len(inputs)
        row["tokens"][start:end] = inputs
        row["targets"][start:end] = targets
        row["loss_weights"][start:end] = weights
        row["positions"][start:end] = np.arange(len(inputs))
        row["segment_ids"][start:end] = segment
        start = end
    return row


class DocumentRows:
    """Documents end to end, cut every `length` tokens; an epoch's last part row is left out."""

    def __init__(self, task: Task, store: TokenStore, length: int, seed: int):
        self._store, self._length = store, length
        self._pad = task.codec.pad_id
        self._seed = (seed, task.name, "documents")
        self.rows_per_epoch = int(store.offsets[-1]) // length
        if self.rows_per_epoch == 0:
            raise DataError(
                f"task {task.name}: its {int(store.offsets[-1])} tokens do not fill one row of "
                f"{length}; give more text, or a smaller train.length."
            )
        self._epoch: tuple[int, np.ndarray, np.ndarray] | None = None

    def row(self, index: int) -> Row:
        """The row of an index."""
        epoch, window = divmod(index, self.rows_per_epoch)
        order, ends = self._order(epoch)
        position, stop = window * self._length, (window + 1) * self._length
        parts = []
        place = int(np.searchsorted(ends, position, side="right"))
        while position < stop:
            document = order[place]
            begin = int(self._store.offsets[document])
            skipped = position - int(ends[place]) + int(self._store.offsets[document + 1]) - begin
            taken = min(stop, int(ends[place])) - position
            cut = slice(begin + skipped, begin + skipped + taken)
            store = self._store
            parts.append((store.inputs[cut], store.targets[cut], store.weights[cut]))
            position += taken
            place += 1
        return pack_row(parts, self._length, self._pad)

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        cached = self._epoch
        if cached is None or cached[0] != epoch:
            lengths = self._store.lengths
            order = permutation(len(lengths), *self._seed, epoch)
            cached = self._epoch = (epoch, order, np.cumsum(lengths[order]))
        return cached[1], cached[2]


class ExampleRows:
    """Whole examples of a stored corpus, longest first into the first row they fit."""

    def __init__(self, task: Task, store: TokenStore, length: int, seed: int):
        self._store, self._length = store, length
        self._pad = task.codec.pad_id
        self._seed = (seed, task.name, "rows")
        _check_longest(task, int(store.lengths.max()), length)
        self._bins = fill_bins(store.lengths, length)
        self.rows_per_epoch = len(self._bins)
        self._epoch: tuple[int, np.ndarray] | None = None

    def row(self, index: int) -> Row:
        """The row of an index."""
        epoch, place = divmod(index, self.rows_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, permutation(self.rows_per_epoch, *self._seed, epoch))
        store, parts = self._store, []
        for example in self._bins[self._epoch[1][place]]:
            cut = slice(int(store.offsets[example]), int(store.offsets[example + 1]))
            parts.append((store.inputs[cut], store.targets[cut], store.weights[cut]))
        return pack_row(parts, self._length, self._pad)


class GeneratedRows:
    """Examples made on the spot, all of one length, so many to a row; they need no shuffling."""

    def __init__(self, task: Task, records: Records, length: int, seed: int):
        self._task, self._records, self._length = task, records, length
        self._pad = task.codec.pad_id
        size = len(self._encode([0])[0].inputs)
        _check_longest(task, size, length)
        self._examples_per_row = length // size
        self.rows_per_epoch = len(records) // self._examples_per_row
        self._first = int(permutation(2**16, seed, task.name, "first")[0])

    def row(self, index: int) -> Row:
        """The row of an index; seeds begin at different places of one endless sequence."""
        first = (self._first * self.rows_per_epoch + index) * self._examples_per_row
        examples = self._encode(range(first, first + self._examples_per_row))
        parts = [(example.inputs, example.targets, example.weights) for example in examples]
        return pack_row(parts, self._length, self._pad)

    def _encode(self, indices: Sequence[int] | range) -> list[Example]:
        return self._task.encode(read_records(self._records, indices))


def fill_bins(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Packs items into bins: each bin takes the longest item left that still fits.

    Args:
      lengths: [items], none above the capacity.
      capacity: of a bin.

    Returns:
      The items of each bin; every item is in one bin.
    """
    waiting: dict[int, list[int]] = {}
    for item in range(len(lengths) - 1, -1, -1):
        waiting.setdefault(int(lengths[item]), []).append(item)
    sizes = sorted(waiting, reverse=True)
    bins = []
    while sizes:
        room, content = capacity, []
        for size in sizes:
            while waiting[size] and size <= room:
                content.append(waiting[size].pop())
                room -= size
        bins.append(content)
        sizes = [size for size in sizes if waiting[size]]
    return bins


def _check_longest(task: Task, longest: int, length: int) -> None:
    if longest > length:
        raise DataError(
            f"task {task.name}: an example of {longest} tokens does not fit a row of {length}, and "
            f"examples with answers are not split; set train.length to {longest} or more."
        )
