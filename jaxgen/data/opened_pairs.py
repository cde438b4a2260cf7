"""The batches of image-text pairs by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxgen.data.base import HostRows
from jaxgen.data.caption_encodings import CaptionEncodings
from jaxgen.data.caption_tokens import check_second_length
from jaxgen.data.draws import Draws
from jaxgen.data.epoch_records import EpochRecords, OpenedRecords
from jaxgen.data.protocols import Record, Split
from jaxgen.errors import DataError
from jaxgen.pair_batch import PairBatch

if TYPE_CHECKING:
    from jaxgen.data.pairs import ImageTextPairs

TRIES = 16
"""Records that are looked at, for each row of a batch, to find captions that it does not have."""


class OpenedPairs(OpenedRecords):
    """The batches of pairs by step; see `data.base.Data`."""

    BATCH = PairBatch

    def __init__(
        self,
        pairs: ImageTextPairs,
        length: int,
        source_length: int | None,
        seed: int,
        split: Split,
        rows_before: Callable[[int], int],
    ):
        self._pairs, self._lengths = pairs, (length, source_length)
        self._split: Split = split
        self._seed, self._rows_before = seed, rows_before
        if pairs.classes and length != 1:
            raise DataError(
                f"train.length={length}: a class is one token (image_text_pairs.classes); set it "
                "to 1."
            )
        if length < 3 and not pairs.classes:
            raise DataError(f"train.length={length} has no room for a caption; use 3 or more.")
        check_second_length(pairs.second_codec, source_length)
        if pairs.encodings is not None:
            CaptionEncodings(pairs.encodings).check(pairs.codec, length)
        super().__init__(pairs.task, EpochRecords(pairs.task, seed, split, "pairs"))

    def _read(self, host_rows: HostRows | None, step: int) -> dict[str, Any]:
        pairs, (start, stop) = self._pairs, (self._rows_before(step), self._rows_before(step + 1))
        records = self._records.at(range(start, stop))
        if pairs.distinct:
            records = self._unlike(step, records)
        if host_rows is not None:
            records = [records[row] for row in host_rows(stop - start)]
        told = pairs.told(pairs.captions(records), *self._lengths)
        return told | {"images": pairs.pixels(records)}

    def _unlike(self, step: int, records: list[Record]) -> list[Record]:
        """Returns the records of a batch with others in place of those of a caption it has."""
        captions = self._pairs.captions(records)
        seen: set[str] = set()
        again = [row for row, text in enumerate(captions) if text in seen or seen.add(text)]
        if not again:
            return records
        draws = Draws("pairs", self._pairs.name, self._seed, self._split, step)
        epoch = self._rows_before(step) // self.num_records
        tries = TRIES * len(records)
        places = iter(epoch * self.num_records + draws.integers(tries, self.num_records))
        for place in places:
            (found,) = self._records.at([place], in_order=False)
            (caption,) = self._pairs.captions([found])
            if caption not in seen:
                seen.add(caption)
                records[again.pop(0)] = found
            if not again:
                break
        return records
