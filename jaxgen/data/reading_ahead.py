"""Batches read ahead of the step that needs them, in a thread or in processes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import grain

from jaxgen.errors import DataError

MAX_RESTARTS = 3
"""Restarts of worker processes without a batch between them."""
logger = logging.getLogger(__name__)


def read_ahead(
    read: Callable[[int], Any], first_step: int = 0, num_workers: int = 0
) -> Iterator[Any]:
    """Yields what `read` returns of `first_step` and of all steps after it.

    A worker process that dies is replaced, and its batch made again.

    Args:
      read: of a step; picklable, where there are workers.
      first_step: counted from 0.
      num_workers: processes that make batches; 0 makes them in a thread.

    Raises:
      DataError: if workers die again and again.
    """
    done, restarts = 0, 0
    while True:
        try:
            for batch in _iterator(_Steps(read, first_step + done), num_workers):
                yield batch
                done, restarts = done + 1, 0
        except RuntimeError as error:
            # What a worker raises arrives as itself; only its death is a RuntimeError of Grain's.
            if num_workers == 0 or "Worker process was terminated" not in str(error):
                raise
            restarts += 1
            if restarts > MAX_RESTARTS:
                raise DataError(
                    f"data workers died {restarts} times at one batch ({error}); the machine may "
                    "be out of memory: set a smaller execution.data_workers."
                ) from error
            logger.warning("a data worker died; starting again at batch %d", done)


@dataclasses.dataclass(frozen=True)
class _Steps:
    """The batches of a step and those after it as a Grain source."""

    read: Callable[[int], Any]
    first_step: int

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, index: int) -> Any:
        return self.read(self.first_step + int(index))


def _iterator(steps: _Steps, num_workers: int) -> Iterator[Any]:
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    batches = grain.MapDataset.source(steps).to_iter_dataset(options)
    if num_workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read its flags.
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=2)
        )
    return iter(batches)
