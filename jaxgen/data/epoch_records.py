"""Records by their place in a sequence of epochs, for data whose rows are one record each."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from jaxgen.data.base import HostRows
from jaxgen.data.hashing import permutation
from jaxgen.data.protocols import Epoch, Record, Split
from jaxgen.data.reading_ahead import read_ahead
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError


class EpochRecords:
    """The records of a task's split, in an order of its own in each epoch.

    Records of a stored source are held in memory as its preprocessors leave them; those of an
    indexed source are made on the spot. What a place has does not depend on what was read before.

    Attributes:
      num_records: of an epoch.
    """

    def __init__(self, task: Task, seed: int, split: Split, purpose: str):
        """Opens the records.

        Args:
          task: the source and its preprocessors.
          seed: of the order.
          split: of the source.
          purpose: a word that tells this order from others of the same seed.

        Raises:
          DataError: if they cannot be read, or there are none.
        """
        self._task, self._seed, self._purpose = task, seed, purpose
        self._split: Split = split
        self._kept: dict[int, list[Record]] = {}
        self._orders: dict[int, np.ndarray] = {}
        self._indexed = task.records_by_index(split) if task.is_indexed else None
        self.num_records = len(self._of_epoch(0) if self._indexed is None else self._indexed)

    def at(self, places: Sequence[int], in_order: bool = True) -> list[Record]:
        """Returns the records at places of the sequence of epochs.

        Args:
          places: counted from 0, epoch after epoch.
          in_order: whether a place is one in the epoch's order, or in the source's.
        """
        found: list[Record] = []
        by_epoch = itertools.groupby(places, lambda place: place // self.num_records)
        for epoch, of_epoch in by_epoch:
            numbers = [int(place) - epoch * self.num_records for place in of_epoch]
            if in_order:
                numbers = self._order(epoch)[numbers].tolist()
            if self._indexed is None:
                kept = self._of_epoch(epoch)
                found += [kept[number] for number in numbers]
            else:
                found += self._made([epoch * self.num_records + n for n in numbers], epoch)
        return found

    def _made(self, indices: list[int], epoch: int) -> list[Record]:
        """Returns the records of an indexed source."""
        assert self._indexed is not None
        made = self._indexed.__getitems__(indices)
        processed = list(self._task.processed(made, self._epoch(epoch)))
        if len(processed) != len(indices):
            raise DataError(
                f"{self._task.name}: its preprocessors make {len(processed)} records of "
                f"{len(indices)}, which is allowed for stored records only."
            )
        return processed

    def _order(self, epoch: int) -> np.ndarray:
        order = self._orders.get(epoch)  # Threads may read other epochs meanwhile.
        if order is None:
            if len(self._orders) > 1:
                self._orders.clear()
            seed = self._purpose, self._seed, self._task.name, epoch
            order = self._orders[epoch] = permutation(self.num_records, *seed)
        return order

    def _epoch(self, epoch: int) -> Epoch | None:
        is_drawn = self._task.draws and self._split == "train"
        return Epoch(self._seed, self._task.name, epoch) if is_drawn else None

    def _of_epoch(self, epoch: int) -> list[Record]:
        """Returns a stored source's records, which differ from epoch to epoch if they are drawn."""
        task, number = self._task, epoch if self._epoch(epoch) is not None else 0
        kept = self._kept.get(number)
        if kept is None:
            self._kept.clear()
            kept = self._kept[number] = list(task.records(self._split, self._epoch(epoch)))
            if not kept:
                raise DataError(f"{task.name} has no record in the {self._split} split.")
        return kept


class OpenedRecords:
    """The base of batches with a record a row, by step; see `data.base.Data`.

    Attributes:
      BATCH: makes a batch of the arrays by name that `_read` returns.
    """

    BATCH: ClassVar[Callable[..., Any]]
    task_names: tuple[str, ...] = ()

    def __init__(self, task: Task, records: EpochRecords):
        self._name, self._records = task.name, records
        self.num_records = records.num_records

    def batch(self, step: int, state: Any = None, rows: HostRows | None = None) -> Any:
        """Returns the batch of a step; see `Data.batch`."""
        del state
        return self._made(self._read(rows, step))

    def iterate(
        self, first_step: int = 0, *, rows: HostRows | None = None, num_workers: int = 0
    ) -> Iterator[Any]:
        """Yields the batches of `first_step` and of all steps after it; see `Data.iterate`."""
        read = functools.partial(self._read, rows)
        return (self._made(one) for one in read_ahead(read, first_step, num_workers))

    def check_lasts(self, num_rows: int) -> None:
        """Returns: records are seen again and again."""

    def seen(self, num_rows: int) -> dict[str, Any]:
        """Returns the epochs that so many rows are, and how many records they have at most."""
        name, epochs = self._name, num_rows / self.num_records
        examples = min(num_rows, self.num_records)
        return {"shares": {name: 1.0}, "epochs": {name: epochs}, "examples": {name: examples}}

    def _made(self, arrays: dict[str, Any]) -> Any:
        """Returns the batch of its arrays by name."""
        return type(self).BATCH(**arrays)

    def _read(self, host_rows: HostRows | None, step: int) -> dict[str, Any]:
        """Returns the arrays of a step's batch by name."""
        raise NotImplementedError
