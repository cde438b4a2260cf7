"""Image-text pairs: batches of images and captions, for models that compare the two."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import opening_ids
from jaxgen.data.base import HostRows
from jaxgen.data.caption_encodings import CaptionEncodings
from jaxgen.data.draws import Draws
from jaxgen.data.epoch_records import EpochRecords, OpenedRecords
from jaxgen.data.preprocessors import need
from jaxgen.data.protocols import Record, Source, Split
from jaxgen.data.tasks import Task
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError, DataError
from jaxgen.pair_batch import PairBatch, pair_batch_spec

TRIES = 16
"""Records that are looked at, for each row of a batch, to find captions that it does not have."""


@dataclasses.dataclass(frozen=True)
class ImageTextPairs:
    """Pairs of an image and its caption; an implementation of `data.base.DataConfig`.

    The batch of a step is a function of (pairs, seed, step). An epoch has every record of the split
    once, in an order of its own, but for those whose caption their batch has already: it would
    be told that the caption is of another image. Other records, drawn at random, take their places;
    where the captions of a batch's worth of tries are all there already, one is repeated. A model
    that makes pictures of captions is told no such thing: set `distinct` to False.

    Captions are begin token, text and end token, and are cut to the length of a row, the end token
    kept. Records of a stored source are held in memory as its preprocessors leave them; those of an
    indexed source are made on the spot.

    Attributes:
      task: the source and its preprocessors, which leave an image and a text in each record; its
        features have no part in it.
      image_size: rows and columns of an image.
      image: the field of the image, uint8 [image_size, image_size, channels].
      text: the field of the caption.
      channels: of an image.
      distinct: whether the captions of a batch are unlike one another.
      classes: names that the text is one of, whose number, from 0, is then the only token of a row
        (`train.length=1`), for models of classes; (): captions.
      encodings: a folder of `jaxgen prepare --captions`, with captions as a frozen encoder reads
        them, for a model without it (`caption_encoder.precomputed`).
    """

    task: Task
    image_size: PositiveInt
    image: str = "image"
    text: str = "caption"
    channels: PositiveInt = 3
    distinct: bool = True
    classes: tuple[str, ...] = ()
    encodings: str | None = None

    def __post_init__(self):
        check_domains(self, "image_text_pairs")
        if len(set(self.classes)) < len(self.classes) or (self.classes and self.distinct):
            raise ConfigError(
                f"image_text_pairs.classes={self.classes!r}: each name once, and with "
                "image_text_pairs.distinct=False, as batches have several pictures of a class."
            )
        if self.encodings is not None and self.classes:
            raise ConfigError(
                "image_text_pairs.encodings are of captions, and image_text_pairs.classes are "
                "numbers: leave one out."
            )

    @property
    def name(self) -> str:
        """Returns the task's name."""
        return self.task.name

    @property
    def codec(self) -> Codec:
        """Returns the task's codec."""
        return self.task.codec

    @property
    def task_names(self) -> tuple[str, ...]:
        """Returns nothing: a pair has one loss."""
        return ()

    @property
    def sources(self) -> dict[str, Source]:
        """Returns the task's source and the encodings, whose files a run records."""
        found: dict[str, Any] = {self.name: self.task.source}
        if self.encodings is not None:
            found["image_text_pairs.encodings"] = CaptionEncodings(self.encodings)
        return found

    def with_codec(self, codec: Codec) -> ImageTextPairs:
        """Returns the pairs with another codec."""
        return dataclasses.replace(self, task=self.task.with_codec(codec))

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> PairBatch:
        """Returns a batch of `jax.ShapeDtypeStruct`; see `DataConfig.batch_spec`."""
        del source_length
        spec = pair_batch_spec(batch_size, length, self._shape)
        if self.encodings is None:
            return spec
        shapes = CaptionEncodings(self.encodings).shapes(length)
        return dataclasses.replace(
            spec,
            **{
                name: jax.ShapeDtypeStruct((batch_size, *shape), kind)
                for name, (shape, kind) in shapes.items()
            },
        )

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.image_size, self.image_size, self.channels

    def open(
        self,
        *,
        batch_size: int,
        length: int,
        seed: int,
        split: Split = "train",
        source_length: int | None = None,
        rows_before: Callable[[int], int] | None = None,
    ) -> OpenedPairs:
        """Opens the pairs; see `DataConfig.open`.

        Raises:
          DataError: if they cannot be read, or there are none.
        """
        del source_length
        first_row = rows_before or functools.partial(operator.mul, batch_size)
        return OpenedPairs(self, length, seed, split, first_row)

    def examples(self, count: int, seed: int, split: Split = "heldout") -> list[Record]:
        """Returns `count` records (or all, if there are fewer) of a split, chosen by the seed."""
        return self.task.instances(count, seed, split)

    def pixels(self, records: Sequence[Record]) -> np.ndarray:
        """Returns the images of records, [records, image_size, image_size, channels] uint8.

        Raises:
          DataError: if one has no image of this shape.
        """
        found = [need(record, self.image, "image_text_pairs.image") for record in records]
        for image in found:
            shape, kind = getattr(image, "shape", None), getattr(image, "dtype", type(image))
            if shape != self._shape or kind != np.uint8:
                raise DataError(
                    f"{self.name}: an image is {kind} {shape}, not uint8 {self._shape}; decode and "
                    "resize it (decode_media.height, .width), or set image_text_pairs.image_size."
                )
        return np.stack(found)

    def tokens(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the tokens of captions, [texts, length] int32, and how many they are, [texts].

        Raises:
          DataError: if a text is none of the classes.
        """
        if self.classes:
            return self._numbers(texts), np.ones(len(texts), np.int32)
        codec, begin = self.codec, opening_ids(self.codec)
        most = length - len(begin) - 1
        rows = np.full((len(texts), length), codec.pad_id, np.int32)
        lengths = np.zeros(len(texts), np.int32)
        for row, ids in enumerate(codec.encode_batch(list(texts))):
            caption = np.concatenate([begin, ids[:most], [codec.end_id]])
            rows[row, : len(caption)], lengths[row] = caption, len(caption)
        return rows, lengths

    def states(self, tokens: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
        """Returns `PairBatch.states` and `empty_states` of captions, by name; {} if none are kept.

        Args:
          tokens: as `tokens` returns them.
          lengths: likewise.

        Raises:
          DataError: if there are none of a caption.
        """
        return {} if self._encodings is None else self._encodings.rows(tokens, lengths)

    @functools.cached_property
    def _encodings(self) -> CaptionEncodings | None:
        return None if self.encodings is None else CaptionEncodings(self.encodings)

    def _numbers(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the numbers of classes, [texts, 1] int32."""
        if unknown := sorted(set(texts) - set(self.classes)):
            raise DataError(
                f"{self.name}: {unknown[0]!r} is none of image_text_pairs.classes, "
                f"{self.classes[:8]}; add it, or set image_text_pairs.text to the class's field."
            )
        return np.array([[self.classes.index(text)] for text in texts], np.int32)

    def captions(self, records: Sequence[Record]) -> list[str]:
        """Returns the captions of records.

        Raises:
          DataError: if one has none, or it is blank.
        """
        found = [str(need(record, self.text, "image_text_pairs.text")) for record in records]
        if not all(caption.strip() for caption in found):
            raise DataError(
                f"{self.name}: the field {self.text!r} of a record is blank; leave such records "
                "out (keep, decode_media.texts), or set image_text_pairs.text."
            )
        return found


class OpenedPairs(OpenedRecords):
    """The batches of pairs by step; see `data.base.Data`."""

    BATCH = PairBatch

    def __init__(
        self,
        pairs: ImageTextPairs,
        length: int,
        seed: int,
        split: Split,
        rows_before: Callable[[int], int],
    ):
        self._pairs, self._length = pairs, length
        self._split: Split = split
        self._seed, self._rows_before = seed, rows_before
        if pairs.classes and length != 1:
            raise DataError(
                f"train.length={length}: a class is one token (image_text_pairs.classes); set it "
                "to 1."
            )
        if length < 3 and not pairs.classes:
            raise DataError(f"train.length={length} has no room for a caption; use 3 or more.")
        if pairs.encodings is not None:
            CaptionEncodings(pairs.encodings).check(pairs.codec, length)
        super().__init__(pairs.task, EpochRecords(pairs.task, seed, split, "pairs"))

    def _read(self, host_rows: HostRows | None, step: int) -> dict[str, np.ndarray]:
        pairs, (start, stop) = self._pairs, (self._rows_before(step), self._rows_before(step + 1))
        records = self._records.at(range(start, stop))
        if pairs.distinct:
            records = self._unlike(step, records)
        if host_rows is not None:
            records = [records[row] for row in host_rows(stop - start)]
        tokens, lengths = pairs.tokens(pairs.captions(records), self._length)
        arrays = {"images": pairs.pixels(records), "tokens": tokens, "lengths": lengths}
        return arrays | pairs.states(tokens, lengths)

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
