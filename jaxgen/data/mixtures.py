"""A mixture of tasks: the global batch as a function of the step.

Grain mixes the tasks' rows by random access with exact shares, and reads ahead on a thread. A
batch depends on (mixture, seed, step) alone, so a run is resumed by giving the step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from jaxgen.batch import Batch
from jaxgen.codecs.bpe import BPECodec
from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.packing import DocumentRows, ExampleRows, GeneratedRows, Row, Rows
from jaxgen.data.sources import Split
from jaxgen.data.tasks import Task, Text, read_records
from jaxgen.data.token_cache import cached_store
from jaxgen.errors import DataError

ENDLESS = 2**40
"""Rows that a task offers: its epochs follow one another for longer than any run."""


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Tasks and their shares.

    Attributes:
      name: in tables.
      tasks: with different names and one codec.
      weights: each task's share of the rows, up to a common factor; None takes the tokens of an
        epoch of each.
      temperature: shares are taken to the power of 1 / temperature, so more is flatter (T5).
    """

    name: str
    tasks: tuple[Task, ...]
    weights: dict[str, float] | None = None
    temperature: float = 1.0

    def __post_init__(self):
        names = [task.name for task in self.tasks]
        if not names:
            raise DataError(f"mixture {self.name} has no task.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"mixture {self.name} has the task name(s) {twice} twice; rename one.")
        if len({task.codec for task in self.tasks}) > 1:
            codecs = {task.name: task.codec for task in self.tasks}
            raise DataError(f"mixture {self.name}: all tasks must share one codec, not {codecs}.")
        if not self.temperature > 0:
            raise DataError(f"mixture.temperature={self.temperature} must be positive.")
        if self.weights is not None:
            if set(self.weights) != set(names):
                raise DataError(
                    f"mixture {self.name}: weights name {sorted(self.weights)}, tasks are "
                    f"{sorted(names)}; give each task one weight."
                )
            for name, weight in self.weights.items():
                if not (weight > 0 and math.isfinite(weight)):
                    raise DataError(
                        f"mixture {self.name}: the weight {weight} of {name} must be positive; "
                        "leave the task out to give it no share."
                    )

    @property
    def codec(self) -> ByteCodec | BPECodec:
        """The codec that all tasks share."""
        return self.tasks[0].codec

    @property
    def task_names(self) -> tuple[str, ...]:
        """In the order of task_ids: by name, so that the order of writing them means nothing."""
        return tuple(sorted(task.name for task in self.tasks))

    def open(
        self, *, batch_size: int, length: int, seed: int, split: Split = "train"
    ) -> MixtureData:
        """The mixture's batches.

        Args:
          batch_size: rows of a global batch.
          length: tokens of a row.
          seed: of the order.
          split: "train" or "heldout".

        Raises:
          DataError: if a task cannot be read or packed.
        """
        tasks = {task.name: task for task in self.tasks}
        rows = {name: open_rows(tasks[name], length, seed, split) for name in self.task_names}
        shares = self.shares({name: task_rows.rows_per_epoch for name, task_rows in rows.items()})
        return MixtureData(rows, shares, batch_size)

    def shares(self, rows_per_epoch: dict[str, int]) -> dict[str, float]:
        """Each task's share of the rows; they sum to 1."""
        weights: Mapping[str, float] = self.weights or rows_per_epoch
        powers = {name: weights[name] ** (1 / self.temperature) for name in self.task_names}
        total = sum(powers.values())
        return {name: power / total for name, power in powers.items()}


class MixtureData:
    """The batches of an opened mixture."""

    def __init__(self, rows: dict[str, Rows], shares: dict[str, float], batch_size: int):
        self.task_names = tuple(rows)
        self.shares = shares
        self.rows_per_epoch = {name: task_rows.rows_per_epoch for name, task_rows in rows.items()}
        self._batch_size = batch_size
        parts = [
            grain.MapDataset.source(_EndlessRows(task_rows, task_id))
            for task_id, task_rows in enumerate(rows.values())
        ]
        mixed = grain.MapDataset.mix(parts, weights=[shares[name] for name in self.task_names])
        self._rows = mixed

    def batch_at(self, step: int, rows: slice = slice(None)) -> Batch:
        """The batch of a step, counted from 0; numpy arrays [rows, length].

        Args:
          step: which.
          rows: those of the global batch that this host needs.
        """
        first = step * self._batch_size
        indices = range(first, first + self._batch_size)[rows]
        return _stack([self._rows[index] for index in indices])

    def iterate(self, runs: Iterable[tuple[int, int, int | None]] = ()) -> Iterator[Batch]:
        """Batches in the order of the rows, read ahead by a thread.

        Args:
          runs: (first row, batch size, batches) of each stretch of batches of one size, None for
            an endless one; nothing is all batches from the first.
        """
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
        for first, size, batches in runs or [(0, self._batch_size, None)]:
            end = None if batches is None else first + batches * size
            yield from self._rows[first:end].batch(size, batch_fn=_stack).to_iter_dataset(options)


def _stack(rows: Sequence[Any]) -> Batch:
    arrays: dict[str, Any] = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return Batch(**arrays)


class _EndlessRows:
    """A task's rows as a Grain source."""

    def __init__(self, rows: Rows, task_id: int):
        self._rows, self._task_id = rows, task_id

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Row:
        row = self._rows.row(int(index))
        return row | {"task_ids": np.full_like(row["tokens"], self._task_id)}


def open_rows(task: Task, length: int, seed: int, split: Split) -> Rows:
    """A task's rows: tokenised once and cached, or made on the spot."""
    digest = task.source.content_digest()
    if digest is None:
        return GeneratedRows(task, task.source.open(split), length, seed)

    def encode():
        records = task.source.open(split)
        return task.encode(read_records(records, range(len(records))))

    identity = (digest, task.source, task.features, task.codec.digest, split)
    store = cached_store(identity, encode)
    kind = DocumentRows if isinstance(task.features, Text) else ExampleRows
    return kind(task, store, length, seed)
