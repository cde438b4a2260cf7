"""Data: whatever gives a training run its batches. A mixture of tasks is one implementation.

`DataConfig` is a frozen dataclass of a configuration, and `Data` is what it opens: the batch of any
step. Any two classes with these methods will do:

    @dataclasses.dataclass(frozen=True)
    class Noise:
        name: str = "noise"
        codec: Codec = ByteCodec()
        task_names: ClassVar[tuple[str, ...]] = ("noise",)

        def batch_spec(self, *, batch_size, length, source_length=None):
            return jax.eval_shape(lambda: make_batch(np.zeros((batch_size, length), np.int32)))

        def open(self, *, batch_size, length, seed, **options):
            return OpenedNoise(...)  # its `batch(step)` draws from np.random.Philox([seed, step])
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from jaxgen.codecs.codec import Codec
from jaxgen.data.protocols import Split

HostRows = Callable[[int], Sequence[int]]
"""The size of a global batch to the numbers of its rows that one host needs; picklable."""


class Data(Protocol):
    """Opened data: batches of numpy arrays by step, the same in every process and after a restart.

    Data whose batches are made of the training state, such as completions that the model samples,
    has an attribute `samples_from_state = True`; it is then asked for one batch after the other, by
    `batch` alone. With `to_record(step)` it returns what JSON can hold of batches that it has made
    for that step, and steps after it; `go_on_from(record)` takes it back, {} where there is none.

    Attributes:
      task_names: the tasks that losses are reported for, in the order of `Batch.task_ids`.
    """

    @property
    def task_names(self) -> tuple[str, ...]: ...

    def batch(self, step: int, state: Any = None, rows: HostRows | None = None) -> Any:
        """Returns the batch of a step, counted from 0: a `Batch`, or what else the model reads.

        Args:
          step: the step.
          state: the training state before the step, for data that the model makes itself; a
            mixture ignores it.
          rows: the rows of the global batch that this host needs; None takes all.
        """
        ...

    def iterate(
        self, first_step: int = 0, *, rows: HostRows | None = None, num_workers: int = 0
    ) -> Iterator[Any]:
        """Yields the batches of `first_step`, the step after it and so on, read ahead.

        Args:
          first_step: counted from 0.
          rows: as in `batch`.
          num_workers: processes that make batches; 0 makes them in a thread.
        """
        ...

    def check_lasts(self, num_rows: int) -> None:
        """Raises DataError if the data ends before this many rows."""
        ...

    def seen(self, num_rows: int) -> dict[str, Any]:
        """Returns what run.json records of the first rows, such as the share of each task."""
        ...


@runtime_checkable
class DataConfig(Protocol):
    """The configuration of data, complete before anything is read.

    It may also have `every_task`, tasks whose losses and answers are evaluated one by one, or else
    `sources`, by name, whose files a run records so that a change of them is noticed; and
    `has_heldout_loss = False`, where there is no loss without training; and `rows_per_example`, how
    many rows of tokens a model reads for each row of the batch size, where that is not 1; and
    `more_codecs`, if it makes tokens of the same texts by others.

    Attributes:
      name: the name in tables and plots.
      codec: the codec of its texts.
      task_names: see `Data`.
    """

    @property
    def name(self) -> str: ...

    @property
    def codec(self) -> Codec: ...

    @property
    def task_names(self) -> tuple[str, ...]: ...

    def batch_spec(self, *, batch_size: int, length: int, source_length: int | None = None) -> Any:
        """Returns a batch of `jax.ShapeDtypeStruct` without reading anything; see `open`."""
        ...

    def open(
        self,
        *,
        batch_size: int,
        length: int,
        seed: int,
        split: Split = "train",
        source_length: int | None = None,
        rows_before: Callable[[int], int] | None = None,
    ) -> Data:
        """Opens the data.

        Args:
          batch_size: rows of a global batch.
          length: tokens of a row.
          seed: seed of the order.
          split: "train" or "heldout".
          source_length: tokens of the encoder's row; None where the model has no encoder.
          rows_before: maps a step to the number of rows in all steps before it, for batches that
            grow; picklable. None means batches of `batch_size`.

        Raises:
          DataError: if the data cannot be read, or does not fit the rows.
        """
        ...


def keep_codecs(config: DataConfig, folder: pathlib.Path) -> None:
    """Stores the codecs of data in a run's folder, or checks those that are there.

    Raises:
      DataError: if the folder holds others.
    """
    for codec in (config.codec, *getattr(config, "more_codecs", ())):
        codec.keep_in(folder)
