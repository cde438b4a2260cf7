"""The batches of an opened mixture: at any step, or one after another, read ahead.

A batch depends on (mixture, seed, step) alone: Grain's threads and worker processes only fetch the
rows that the schedule names, so neither their number nor a restart changes a batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxgen.batch import Batch, EncoderInput
from jaxgen.data.base import HostRows
from jaxgen.data.packing import MEDIA, Row, Rows
from jaxgen.data.reading_ahead import read_ahead
from jaxgen.data.schedule import RowSchedule
from jaxgen.errors import DataError


class MixtureData:
    """The opened batches of a mixture; see `data.base.Data`."""

    def __init__(
        self,
        rows: dict[str, Rows],
        schedule: RowSchedule,
        rows_before: Callable[[int], int],
        modality_names: tuple[str, ...] = (),
    ):
        self.task_names, self._modality_names = tuple(rows), modality_names
        self.rows_per_epoch = {name: of_task.rows_per_epoch for name, of_task in rows.items()}
        self.examples_per_epoch = {
            name: of_task.examples_per_epoch for name, of_task in rows.items()
        }
        self.share_used = {name: of_task.share_used for name, of_task in rows.items()}
        self._schedule = schedule
        self._batches = _Batches(list(rows.values()), schedule, rows_before)

    def batch(self, step: int, state: Any = None, rows: HostRows | None = None) -> Batch:
        """Returns the batch of a step, a function of the step alone; see `Data.batch`.

        Raises:
          DataError: if all tasks have ended before the step.
        """
        del state
        return as_batch(self._batches.read(step, rows), self.task_names, self._modality_names)

    def iterate(
        self, first_step: int = 0, *, rows: HostRows | None = None, num_workers: int = 0
    ) -> Iterator[Batch]:
        """Yields the batches of `first_step` and of all steps after it; see `Data.iterate`.

        A worker process that dies is replaced, and its batch made again.

        Raises:
          DataError: if workers die again and again, or all tasks have ended.
        """
        read = functools.partial(self._batches.read, host_rows=rows)
        for arrays in read_ahead(read, first_step, num_workers):
            yield as_batch(arrays, self.task_names, self._modality_names)

    def seen(self, num_rows: int) -> dict[str, Any]:
        """Returns the "shares", "epochs" and "examples" of each task in so many rows."""
        return {
            "shares": self.shares_seen(num_rows),
            "epochs": self.epochs_seen(num_rows),
            "examples": self.examples_seen(num_rows),
        }

    def epochs_seen(self, num_rows: int) -> dict[str, float]:
        """Returns the epochs of each task in the first rows."""
        counts = self._schedule.counts(num_rows)
        return {
            name: count / self.rows_per_epoch[name]
            for name, count in zip(self.task_names, counts, strict=True)
        }

    def examples_seen(self, num_rows: int) -> dict[str, int]:
        """Returns about how many different examples of each task the first rows have."""
        return {
            name: round(min(1.0, epochs) * self.examples_per_epoch[name])
            for name, epochs in self.epochs_seen(num_rows).items()
        }

    def shares_seen(self, num_rows: int) -> dict[str, float]:
        """Returns each task's share of the first rows."""
        counts = self._schedule.counts(num_rows)
        return dict(zip(self.task_names, (count / num_rows for count in counts), strict=True))

    def check_lasts(self, num_rows: int) -> None:
        """Raises DataError if the mixture has fewer rows."""
        available = self._schedule.num_rows(num_rows)
        if available < num_rows:
            raise DataError(
                f"the mixture ends after {available} rows, when every task has ended its epochs, "
                f"and the run needs {num_rows}; give tasks more epochs (None: no end) or train "
                "for fewer steps."
            )


class _Batches:
    """Random access to the batches of a mixture, as stacked rows."""

    def __init__(self, rows: list[Rows], schedule: RowSchedule, rows_before: Callable[[int], int]):
        self._rows, self._schedule, self._rows_before = rows, schedule, rows_before

    def read(self, step: int, host_rows: HostRows | None) -> Row:
        """Returns the batch of a step, or this host's rows of it: arrays [rows, ...]."""
        start, stop = self._rows_before(step), self._rows_before(step + 1)
        tasks, indices = self._schedule.rows(start, stop)
        if len(tasks) < stop - start:
            raise DataError(
                f"the batch of step {step} needs row {stop - 1}, and the mixture has "
                f"{self._schedule.num_rows(stop)} rows: every task has ended its epochs."
            )
        rows = []
        for place in range(stop - start) if host_rows is None else host_rows(stop - start):
            row = self._rows[int(tasks[place])].row(int(indices[place]))
            rows.append(row | {"task_ids": np.full_like(row["tokens"], tasks[place])})
        return stack(rows)


def stack(rows: Sequence[Row]) -> Row:
    """Returns rows as arrays [rows, ...]."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def as_batch(
    arrays: dict[str, Any], task_names: tuple[str, ...] = (), modality_names: tuple[str, ...] = ()
) -> Batch:
    """Returns stacked rows as a batch."""
    source = {
        name.removeprefix("source_"): array
        for name, array in arrays.items()
        if name.startswith("source_")
    }
    media = {name.removeprefix(MEDIA): x for name, x in arrays.items() if name.startswith(MEDIA)}
    own = {name: array for name, array in arrays.items() if not name.startswith(("source_", MEDIA))}
    encoder = EncoderInput(**source) if source else None
    return Batch(
        **own,
        media=media or None,
        encoder=encoder,
        task_names=task_names,
        modality_names=modality_names,
    )
