"""Pictures or sounds alone: batches for models that make codes of them."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.data.base import HostRows
from jaxgen.data.draws import Draws
from jaxgen.data.epoch_records import EpochRecords, OpenedRecords
from jaxgen.data.preprocessors import need
from jaxgen.data.protocols import Record, Source, Split
from jaxgen.data.tasks import Task
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import DataError
from jaxgen.media_batch import MediaBatch, media_batch_spec


@dataclasses.dataclass(frozen=True)
class MediaRows:
    """Rows of a picture or a sound each; an implementation of `data.base.DataConfig`.

    The batch of a step is a function of (rows, seed, step). An epoch has every record of the split
    once, in an order of its own. Of a sound that is longer than a row an excerpt is drawn, and a
    shorter one ends in silence.

    Attributes:
      task: the source and its preprocessors, which leave a picture or a sound in each record; its
        features have no part in it.
      shape: of a row: height, width and channels of a picture, or the samples of a sound.
      field: of the record, uint8 [height, width, channels] or float32 [samples].
      rate: samples a second that records must have, where they say so; None: any.
    """

    task: Task
    shape: tuple[PositiveInt, ...]
    field: str = "image"
    rate: PositiveInt | None = None

    def __post_init__(self):
        check_domains(self, "media_rows")
        media_batch_spec(1, self.shape)

    @property
    def name(self) -> str:
        """Returns the task's name."""
        return self.task.name

    @property
    def codec(self) -> Codec:
        """Returns the task's codec, which nothing here is read by."""
        return self.task.codec

    @property
    def task_names(self) -> tuple[str, ...]:
        """Returns nothing: there is one loss."""
        return ()

    @property
    def sources(self) -> dict[str, Source]:
        """Returns the task's source, whose files a run records."""
        return {self.name: self.task.source}

    def with_codec(self, codec: Codec) -> MediaRows:
        """Returns the rows with another codec of the task."""
        return dataclasses.replace(self, task=self.task.with_codec(codec))

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> MediaBatch:
        """Returns a batch of `jax.ShapeDtypeStruct`; see `DataConfig.batch_spec`."""
        del length, source_length
        return media_batch_spec(batch_size, self.shape)

    def open(
        self,
        *,
        batch_size: int,
        length: int,
        seed: int,
        split: Split = "train",
        source_length: int | None = None,
        rows_before: Callable[[int], int] | None = None,
    ) -> OpenedMediaRows:
        """Opens the rows; see `DataConfig.open`.

        Raises:
          DataError: if they cannot be read, or there are none.
        """
        del length, source_length
        first_row = rows_before or functools.partial(operator.mul, batch_size)
        return OpenedMediaRows(self, seed, split, first_row)

    def values(self, record: Record, draw: float = 0.0) -> np.ndarray:
        """Returns the row of a record.

        Args:
          record: with the field.
          draw: in [0, 1), where in a longer sound the row begins.

        Raises:
          DataError: if the record has no picture or sound that fits.
        """
        found = need(record, self.field, "media_rows.field")
        kind = np.uint8 if len(self.shape) == 3 else np.float32
        shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", type(found))
        is_sound = kind == np.float32
        fits = dtype == kind and (len(shape or ()) == 1 if is_sound else shape == self.shape)
        if not fits or shape == (0,):
            raise DataError(
                f"{self.name}: the field {self.field!r} is {dtype} {shape}, not {kind.__name__} "
                f"{'(samples,)' if is_sound else self.shape}; decode it (decode_media), or set "
                "media_rows.field and shape."
            )
        if not is_sound:
            return found
        if self.rate not in (None, rate := record.get("rate", self.rate)):
            raise DataError(
                f"{self.name}: a sound has {rate} samples a second, and media_rows.rate is "
                f"{self.rate}: convert it (decode_media.rate), or set the rate."
            )
        if not np.isfinite(found).all():
            raise DataError(f"{self.name}: a sound has samples that are not finite.")
        samples = self.shape[0]
        first = int(draw * (max(0, len(found) - samples) + 1))
        part = found[first : first + samples]
        return np.pad(part, (0, samples - len(part)))


class OpenedMediaRows(OpenedRecords):
    """The batches of media by step; see `data.base.Data`."""

    BATCH = MediaBatch

    def __init__(self, rows: MediaRows, seed: int, split: Split, rows_before: Callable[[int], int]):
        self._rows, self._rows_before = rows, rows_before
        self._seed = "media_rows", rows.name, seed, split
        super().__init__(rows.task, EpochRecords(rows.task, seed, split, "media_rows"))

    def _read(self, host_rows: HostRows | None, step: int) -> dict[str, np.ndarray]:
        start, stop = self._rows_before(step), self._rows_before(step + 1)
        places: Sequence[int] = range(start, stop)
        if host_rows is not None:
            places = [start + row for row in host_rows(stop - start)]
        records = self._records.at(places)
        draws = [float(Draws(*self._seed, place).uniform(1)[0]) for place in places]
        found = [self._rows.values(*one) for one in zip(records, draws, strict=True)]
        return {"values": np.stack(found)}
