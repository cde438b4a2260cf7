"""Captions and their vectors before those of pictures: the rows of DALL-E 2's prior in codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.codec import Codec
from jaxgen.codecs.media import Media, media_of
from jaxgen.codecs.written_vectors import VectorCodec
from jaxgen.data.parts import PARTS, Part
from jaxgen.data.preprocessors import need
from jaxgen.data.protocols import Context, Record
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class CaptionVectors:
    """Puts a caption, the codes of its vector and those of its picture's after one another.

    The last are the answer (2204.06125, 2.2); the features prompt_answer make a row of them.

    Attributes:
      codec: of vectors; multimodal_codec.media has it too.
      text: the field of the caption.
      image: the field of the picture.
      text_codec: whose tokens the pair reads; the one that it was trained with.
      length: of the rows that it reads, to which longer captions are cut.
    """

    codec: VectorCodec
    text: str = "caption"
    image: str = "image"
    text_codec: Codec = ByteCodec()
    length: PositiveInt = 77

    def __post_init__(self):
        check_domains(self, "caption_vectors")
        if self.length < 3:
            raise ConfigError("caption_vectors.length has no room for a caption; use 3 or more.")

    def content_digest(self) -> str:
        """Returns the codec's digest."""
        return self.codec.digest

    def apply(self, records: Iterator[Record], context: Context) -> Iterator[Record]:
        """Yields the records with their parts; raises DataError naming what is missing."""
        del context
        for record in records:
            picture = need(record, self.image, "caption_vectors.image")
            if not isinstance(picture, np.ndarray):
                raise DataError(
                    f"the field {self.image!r} of a record is {type(picture).__name__}, not a "
                    "picture: decode it before caption_vectors, or name another field."
                )
            parts = self.prompt(str(need(record, self.text, "caption_vectors.text")))
            yield record | {PARTS: [*parts, Part("", is_answer=True, media=media_of(picture))]}

    def prompt(self, caption: str) -> list[Part]:
        """Returns the parts that come before the picture's codes.

        Raises:
          DataError: if the pair was trained on another codec's tokens.
        """
        codec = self.text_codec
        if codec.digest != self.codec.text_digest:
            raise DataError(
                f"the pair of {self.codec.path} reads the tokens of {self.codec.text_digest}, and "
                f"caption_vectors.text_codec is {codec.digest}: give it the former."
            )
        tokens = np.full(self.length, codec.pad_id, np.int32)
        ids = [codec.begin_id, *codec.encode(caption)[: self.length - 2], codec.end_id]
        tokens[: len(ids)] = ids
        codes = Media("image", self.codec.text_codes(tokens, len(ids)))
        return [Part(caption, in_loss=False), Part("", in_loss=False, media=codes)]
