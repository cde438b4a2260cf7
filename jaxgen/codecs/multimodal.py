"""Text, pictures, sound and clips as ids of one vocabulary: a codec of text with media after it."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.codecs.bytes import ByteCodec, hash_of
from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import num_bytes
from jaxgen.codecs.media import Media, MediaCodec, MediaRange
from jaxgen.codecs.special import SpecialTokens
from jaxgen.errors import DataError

OPTIONAL = ("encode_pieces", "stop_ids", "adds_begin", "begin_ids")
"""What a codec of text may have besides; see `codecs.joint`."""


@dataclasses.dataclass(frozen=True)
class MultimodalCodec:
    """A codec of text whose vocabulary goes on with the codes of other media, in their order.

    Attributes:
      text: needs the control tokens that begin and end each modality.
      media: at most one codec of each modality.
    """

    text: Codec = ByteCodec(SpecialTokens())
    media: tuple[MediaCodec, ...] = ()

    def __post_init__(self):
        modalities = [one.modality for one in self.media]
        if len(set(modalities)) < len(modalities):
            raise DataError(
                f"multimodal_codec.media has the modalities {modalities}: give one codec of each."
            )
        self.media_ranges  # noqa: B018  The text's codec must have the control tokens.

    @functools.cached_property
    def media_ranges(self) -> tuple[MediaRange, ...]:
        """Returns the ids of each medium."""
        first, ranges = self.text.vocab_size, []
        for one in self.media:
            own = (f"<|{one.modality}_{edge}|>" for edge in ("begin", "end"))
            names = (getattr(one, "begin", next(own)), getattr(one, "end", next(own)))
            begin, end = (-1 if name is None else self.text.special_id(name) for name in names)
            token, form = getattr(one, "token", None), getattr(one, "form", None)
            at = first if token is None else self.text.special_id(token)
            ranges.append(
                MediaRange(one.modality, begin, end, at, one.num_codes, one.grid, one.varies, form)
            )
            first += one.num_codes if token is None else 0
        return tuple(ranges)

    @property
    def vocab_size(self) -> int:
        """Returns the ids of text and of all codes."""
        last = (one.first_id + one.num_codes for one in self.media_ranges)
        return max(self.text.vocab_size, *last, 0)

    @property
    def pad_id(self) -> int:
        return self.text.pad_id

    @property
    def begin_id(self) -> int:
        return self.text.begin_id

    @property
    def end_id(self) -> int:
        return self.text.end_id

    @property
    def digest(self) -> str:
        """Returns the text's digest and one of all media."""
        of_media = tuple(_identity_of(one) for one in self.media)
        return f"{self.text.digest}+{hash_of(of_media)}" if of_media else self.text.digest

    @property
    def plain_ids(self) -> np.ndarray:
        return self.text.plain_ids

    def special_id(self, name: str) -> int:
        """Returns the id of a control token; DataError if there is none of this name."""
        return self.text.special_id(name)

    def __getattr__(self, name: str) -> Any:
        if name in OPTIONAL:
            return getattr(self.text, name)
        # Of a property that failed, its own error.
        return object.__getattribute__(self, name)

    def num_bytes(self, ids: np.ndarray) -> int:
        """Returns the bytes of the text among the ids."""
        return num_bytes(self.text, self._text_of(ids))

    def encode(self, text: str, *, parse_special: bool = False) -> np.ndarray:
        """Returns the ids [length] int32 of a text."""
        return self.text.encode(text, parse_special=parse_special)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encodes each text."""
        return self.text.encode_batch(texts)

    def encode_media(self, media: Media) -> np.ndarray:
        """Returns the ids of a picture, sound or clip with the tokens that begin and end it.

        Raises:
          DataError: if there is no codec of this modality, or it cannot encode this one.
        """
        for one, place in zip(self.media, self.media_ranges, strict=True):
            if one.modality == media.modality:
                rate = getattr(one, "rate", media.rate)
                if media.rate is not None and media.rate != rate:
                    raise DataError(
                        f"a sound has {media.rate} samples a second, and its codec is for {rate}: "
                        "convert it (decode_media.rate), or use a codec of its rate."
                    )
                codes = one.encode(media.values) + place.first_id
                begin, end = ([i] if i >= 0 else [] for i in (place.begin_id, place.end_id))
                return np.concatenate([begin, codes, end]).astype(np.int32)
        raise DataError(
            f"a record has {media.modality}, and multimodal_codec.media has codecs of "
            f"{[one.modality for one in self.media]} alone; add one."
        )

    def draws(self, modality: str) -> bool:
        """Returns whether a model draws what it reads of a modality as vectors."""
        return any(one.modality == modality and getattr(one, "drawn", False) for one in self.media)

    def array_of(self, media: Media) -> np.ndarray | None:
        """Returns what a model reads of a picture, sound or clip beside its ids; None: nothing.

        Raises:
          DataError: if it does not have the form that its codec is made for.
        """
        for one in self.media:
            if one.modality == media.modality and getattr(one, "form", None) is not None:
                return one.array(media.values)  # pyright: ignore[reportAttributeAccessIssue]
        return None

    def decode(self, ids: Sequence[int] | np.ndarray, *, keep_special: bool = False) -> str:
        """Returns the text among the ids; codes are left out."""
        return self.text.decode(self._text_of(ids), keep_special=keep_special)

    def decode_media(self, ids: Sequence[int] | np.ndarray) -> list[str | Media]:
        """Returns texts and media in their order; of a picture that is cut short, nothing."""
        ids = np.asarray(ids, np.int32)
        cuts = np.flatnonzero(np.diff(self._medium_of(ids))) + 1
        found: list[str | Media] = []
        for run in np.split(ids, cuts):
            number = int(self._medium_of(run[:1])[0]) if len(run) else 0
            if not number:
                text = self.text.decode(run)
                found += [text] if text else []
                continue
            codec, place = self.media[number - 1], self.media_ranges[number - 1]
            frames = len(run) // place.frame
            if place.form is not None:
                continue  # What was read is no part of the ids.
            if (place.varies and frames) or frames == place.grid[0]:
                codes = run[: frames * place.frame] - place.first_id
                rate = getattr(codec, "rate", None)
                found.append(Media(codec.modality, codec.decode(codes), rate))
        return found

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Returns each token for a person to read, codes as `image:17`."""
        return [
            f"{self.media_ranges[medium - 1].modality}:{i - self.media_ranges[medium - 1].first_id}"
            if medium and self.media_ranges[medium - 1].form is None
            else self.text.pieces([i])[0]
            for i, medium in zip(
                map(int, ids), self._medium_of(np.asarray(ids, np.int32)).tolist(), strict=True
            )
        ]

    def keep_in(self, folder: pathlib.Path) -> None:
        """Stores each codec in a run's folder, or checks those that are there."""
        for one in (self.text, *self.media):
            one.keep_in(folder)

    def _text_of(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        ids = np.asarray(ids, np.int32)
        return ids[self._medium_of(ids) == 0]

    def _medium_of(self, ids: np.ndarray) -> np.ndarray:
        """Returns the number of each id's medium, from 1; 0 for text."""
        numbers = np.zeros(np.shape(ids), np.int64)
        for number, one in enumerate(self.media_ranges, start=1):
            numbers[(ids >= one.first_id) & (ids < one.first_id + one.num_codes)] = number
        return numbers


def _identity_of(codec: MediaCodec) -> str:
    """Returns a text of all that codes depend on: the digest and every field but the path."""
    fields = dataclasses.fields(codec) if dataclasses.is_dataclass(codec) else ()
    settings = [(one.name, getattr(codec, one.name)) for one in fields if one.name != "path"]
    return f"{codec.modality}:{codec.digest}:{codec.grid}:{settings}"
