"""The batches of an opened mixture: at any step, or one after another, read ahead.

A batch depends on (mixture, seed, step) alone: Grain's threads and worker processes only fetch
what the schedule names, so neither their number nor a restart changes what comes.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import grain
import numpy as np

from jaxgen.batch import Batch, EncoderInput
from jaxgen.data.packing import Row, Rows
from jaxgen.data.schedule import Schedule
from jaxgen.errors import DataError

MAX_RESTARTS = 3
"""Of worker processes, without a batch between them."""
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
    """Batches of one size.

    Attributes:
      first_row: of the mixture.
      batch_size: rows of a global batch.
      batches: how many; None: without end.
    """

    first_row: int
    batch_size: int
    batches: int | None


class MixtureData:
    """The batches of a mixture."""

    def __init__(self, rows: dict[str, Rows], schedule: Schedule, batch_size: int):
        self.task_names = tuple(rows)
        self.rows_per_epoch = {name: of_task.rows_per_epoch for name, of_task in rows.items()}
        self.examples_per_epoch = {
            name: of_task.examples_per_epoch for name, of_task in rows.items()
        }
        self.share_used = {name: of_task.share_used for name, of_task in rows.items()}
        self._rows = _MixedRows(list(rows.values()), schedule)
        self._schedule = schedule
        self._batch_size = batch_size

    def batch_at(self, step: int, rows: slice = slice(None)) -> Batch:
        """The batch of a step, counted from 0; numpy arrays [rows, length].

        Args:
          step: which.
          rows: those of the global batch that this host needs.
        """
        first = step * self._batch_size
        return as_batch(self._rows.read(range(first, first + self._batch_size)[rows]))

    def iterate(
        self,
        runs: Iterable[tuple[int, int, int | None]] = (),
        rows: slice = slice(None),
        num_workers: int = 0,
    ) -> Iterator[Batch]:
        """Batches in the order of the rows, read ahead.

        Args:
          runs: (first row, batch size, batches) of each stretch of batches of one size, None for
            an endless one; nothing is all batches from the first.
          rows: those of each global batch that this host needs.
          num_workers: processes that make batches; 0: a thread does. A worker that dies is
            replaced, and its batch made again.

        Raises:
          DataError: if workers die again and again, or a batch is asked for that the tasks, all
            of which end, cannot fill.
        """
        for first, size, batches in runs or [(0, self._batch_size, None)]:
            source = _Batches(self._rows, Run(first, size, batches), rows)
            yield from _read(source, num_workers)

    def epochs_seen(self, num_rows: int) -> dict[str, float]:
        """How often each task has been seen after so many rows."""
        counts = self._schedule.counts(num_rows)
        return {
            name: count / self.rows_per_epoch[name]
            for name, count in zip(self.task_names, counts, strict=True)
        }

    def examples_seen(self, num_rows: int) -> dict[str, int]:
        """How many different examples of each task there are in so many rows, nearly."""
        return {
            name: round(min(1.0, epochs) * self.examples_per_epoch[name])
            for name, epochs in self.epochs_seen(num_rows).items()
        }

    def shares_seen(self, num_rows: int) -> dict[str, float]:
        """Each task's share of so many rows."""
        counts = self._schedule.counts(num_rows)
        return dict(zip(self.task_names, (count / num_rows for count in counts), strict=True))

    def check_lasts(self, num_rows: int) -> None:
        """Raises DataError if there are fewer rows than these."""
        available = self._schedule.num_rows(num_rows)
        if available < num_rows:
            raise DataError(
                f"the mixture ends after {available} rows, when every task has given its epochs, "
                f"and the run wants {num_rows}; give tasks more epochs (None: no end) or train "
                "for fewer steps."
            )


class _MixedRows:
    """Random access to the rows of a mixture."""

    def __init__(self, rows: list[Rows], schedule: Schedule):
        self._rows, self._schedule = rows, schedule

    def read(self, numbers: range) -> Row:
        """Rows of these numbers, stacked: arrays [rows, ...]."""
        tasks, indices = self._schedule.rows(numbers.start, numbers[-1] + 1)
        if len(tasks) < numbers[-1] + 1 - numbers.start:
            raise DataError(
                f"row {numbers[-1]} is asked for, and the mixture has "
                f"{self._schedule.num_rows(numbers[-1])}: every task has given its epochs."
            )
        rows = []
        for place in range(0, len(tasks), numbers.step):
            row = self._rows[int(tasks[place])].row(int(indices[place]))
            rows.append(row | {"task_ids": np.full_like(row["tokens"], tasks[place])})
        return stack(rows)


class _Batches:
    """A run's batches as a Grain source; picklable, for worker processes."""

    def __init__(self, rows: _MixedRows, run: Run, part: slice, first: int = 0):
        self._rows, self._run, self._part, self._first = rows, run, part, first

    def __len__(self) -> int:
        return 2**40 if self._run.batches is None else self._run.batches - self._first

    def __getitem__(self, index: int) -> Row:
        first = self._run.first_row + (self._first + int(index)) * self._run.batch_size
        return self._rows.read(range(first, first + self._run.batch_size)[self._part])

    def after(self, count: int) -> _Batches:
        """Without the first so many."""
        return _Batches(self._rows, self._run, self._part, self._first + count)


def _read(source: _Batches, num_workers: int) -> Iterator[Batch]:
    """Batches of a source, in spite of workers that die."""
    done, restarts = 0, 0
    while True:
        try:
            for arrays in _grain_iterator(source.after(done), num_workers):
                yield as_batch(arrays)
                done, restarts = done + 1, 0
            return
        except RuntimeError as error:
            # What a worker raises arrives as itself; only its death is a RuntimeError of Grain's.
            if num_workers == 0 or "Worker process was terminated" not in str(error):
                raise
            restarts += 1
            if restarts > MAX_RESTARTS:
                raise DataError(
                    f"data workers died {restarts} times at one batch ({error}); the machine may "
                    "be out of memory: set a smaller train.data_workers."
                ) from error
            logger.warning("a data worker died; starting again at batch %d", done)


def _grain_iterator(source: _Batches, num_workers: int) -> Iterator[Row]:
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    batches = grain.MapDataset.source(source).to_iter_dataset(options)
    if num_workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read its flags.
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=2)
        )
    return iter(batches)


def stack(rows: Sequence[Row]) -> Row:
    """Rows as arrays [rows, ...]."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def as_batch(arrays: dict[str, Any]) -> Batch:
    """Stacked rows as a batch."""
    source = {
        name.removeprefix("source_"): array
        for name, array in arrays.items()
        if name.startswith("source_")
    }
    own = {name: array for name, array in arrays.items() if not name.startswith("source_")}
    return Batch(**own, encoder=EncoderInput(**source) if source else None)
