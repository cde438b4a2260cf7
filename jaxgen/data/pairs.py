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
from jaxgen.codecs.joint import begin_ids, opening_ids
from jaxgen.data.caption_encodings import CaptionEncodings
from jaxgen.data.caption_tokens import (
    caption_tokens,
    check_second,
    second_captions,
)
from jaxgen.data.opened_pairs import OpenedPairs
from jaxgen.data.preprocessors import need
from jaxgen.data.protocols import Record, Source, Split
from jaxgen.data.tasks import Task
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError, DataError
from jaxgen.pair_batch import PairBatch, pair_batch_spec


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
      second_codec: makes tokens of the same captions for what reads others than the task's codec
        makes (`caption_encoder.codec`), in rows of `train.source_length`; None: there are none.
    """

    task: Task
    image_size: PositiveInt
    image: str = "image"
    text: str = "caption"
    channels: PositiveInt = 3
    distinct: bool = True
    classes: tuple[str, ...] = ()
    encodings: str | None = None
    second_codec: Codec | None = None

    def __post_init__(self):
        check_domains(self, "image_text_pairs")
        check_second(self.codec, self.second_codec)
        if len(set(self.classes)) < len(self.classes) or (self.classes and self.distinct):
            raise ConfigError(
                f"image_text_pairs.classes={self.classes!r}: each name once, and with "
                "image_text_pairs.distinct=False, as batches have several pictures of a class."
            )
        of_captions = {"encodings": self.encodings, "second_codec": self.second_codec}
        if wrong := [name for name, one in of_captions.items() if one is not None and self.classes]:
            raise ConfigError(
                f"image_text_pairs.{wrong[0]} is of captions, and image_text_pairs.classes are "
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
    def more_codecs(self) -> tuple[Codec, ...]:
        """Returns the second codec, if there is one."""
        return () if self.second_codec is None else (self.second_codec,)

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
        spec = pair_batch_spec(batch_size, length, self._shape, source_length)
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
        first_row = rows_before or functools.partial(operator.mul, batch_size)
        return OpenedPairs(self, length, source_length, seed, split, first_row)

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
        return caption_tokens(self.codec, opening_ids(self.codec), texts, length)

    def cut(self, texts: Sequence[str], length: int, source_length: int | None = None) -> list[str]:
        """Returns the texts whose ends no codec has room for, in rows as `told` makes them."""
        if self.classes:
            return []
        rooms = [(self.codec, length - len(opening_ids(self.codec)))]
        if self.second_codec is not None and source_length is not None:
            rooms.append((self.second_codec, source_length - len(begin_ids(self.second_codec))))
        return [text for text in texts if all(len(one.encode(text)) >= room for one, room in rooms)]

    def told(
        self,
        texts: Sequence[str],
        length: int,
        source_length: int | None = None,
        states: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]] | None = None,
    ) -> dict[str, Any]:
        """Returns what a batch, or prompts, have of captions, by name.

        Args:
          texts: the captions.
          length: of rows of the task's codec.
          source_length: of rows of the second codec, if there is one.
          states: gives what an encoder makes of the tokens; None: `self.states`.

        Raises:
          DataError: as `tokens` and `states`.
        """
        tokens, lengths = self.tokens(texts, length)
        found: dict[str, Any] = {"tokens": tokens, "lengths": lengths}
        if self.second_codec is not None and source_length is not None:
            found["second"] = second_captions(self.second_codec, texts, source_length)
        return found | (states or self.states)(tokens, lengths)

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
