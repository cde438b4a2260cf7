"""Parts, the texts and media of a record in order, and examples, the same as tokens."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import (
    begin_ids,
    encode_pieces,
    encode_pieces_after,
    joins_pieces,
    piece_of,
)
from jaxgen.codecs.media import Media
from jaxgen.errors import DataError

PARTS = "jaxgen.parts"
"""The field in which a preprocessor leaves the parts of a record."""
IN_LOSS, ANSWER = 1, 2
"""The bits of a token's flags."""


class Part(NamedTuple):
    """A piece of what a model reads or writes: text, or a picture, sound or clip.

    Attributes:
      text: the piece; "" where it is not text.
      in_loss: whether its tokens are targets of the loss.
      is_answer: whether it answers a prompt; the encoder of an encoder-decoder reads all parts
        before the first answer.
      is_control: whether names of control tokens in it are those tokens; otherwise they are text.
      is_apart: whether no token may join it with the text before it.
      media: the picture, sound or clip, which the codec must have codes for.
    """

    text: str
    in_loss: bool = True
    is_answer: bool = False
    is_control: bool = False
    is_apart: bool = False
    media: Media | None = None


@dataclasses.dataclass(frozen=True)
class Example:
    """A record as tokens.

    Attributes:
      ids: [tokens] int32, without begin and end tokens.
      flags: [tokens] uint8, IN_LOSS and ANSWER; None: all are in the loss, none answers.
      media: what a model reads of each picture, sound or clip beside its ids, in order; of those
        with codes, nothing.
    """

    ids: np.ndarray
    flags: np.ndarray | None = None
    media: tuple[Media, ...] = ()

    @property
    def num_targets(self) -> int:
        """Returns the number of tokens to predict: all, and the end token."""
        return len(self.ids) + 1


def encode_parts(parts: Sequence[Part], codec: Codec, has_source: bool = False) -> Example:
    """Returns the tokens of the parts, encoded as the one text that they are.

    A token of a prompt's last and an answer's first characters is the answer's; no token joins an
    answer with what comes after it, or what an encoder reads with what is generated. The begin and
    end tokens that a template writes around everything are left out, as rows have them.

    Args:
      parts: in order.
      codec: the codec.
      has_source: whether an encoder reads what comes before the first answer.

    Raises:
      DataError: if there is nothing at all, or media that the codec has no codes for.
    """
    parts = [part for part in parts if part.text or part.media is not None]
    answers = [place for place, part in enumerate(parts) if part.is_answer]
    begins = {0, *(answers[:1] if has_source else ())}
    cuts = begins | {place for place, part in enumerate(parts) if part.is_apart}
    media = {place for place, part in enumerate(parts) if part.media is not None}
    cuts |= media | {place + 1 for place in media if place + 1 < len(parts)}
    examples = [
        _encode_run(parts[a:b], codec, goes_on=a not in begins)
        for a, b in itertools.pairwise([*sorted(cuts), len(parts)])
        if b > a
    ]
    if not examples:
        raise DataError("a record has no text: every part of it is empty.")
    ids, flags = examples[0]
    if len(examples) > 1:
        ids, flags = (np.concatenate(both) for both in zip(*examples, strict=True))
    begin = begin_ids(codec)
    if parts[0].is_control and tuple(ids[: len(begin)]) == begin:
        ids, flags = ids[len(begin) :], flags[len(begin) :]
    if len(ids) and parts[-1].is_control and ids[-1] == codec.end_id:
        ids, flags = ids[:-1], flags[:-1]
    if not len(ids):
        raise DataError("a record has no text: every part of it is empty.")
    return Example(ids.astype(np.int32, copy=False), flags, _arrays(parts, codec))


def _arrays(parts: Sequence[Part], codec: Codec) -> tuple[Media, ...]:
    """Returns what a model reads of the media beside their ids."""
    arrays = ((part.media, _array_of(part.media, codec)) for part in parts if part.media)
    return tuple(media._replace(values=array) for media, array in arrays if array is not None)


def _array_of(media: Media, codec: Codec) -> np.ndarray | None:
    array_of = getattr(codec, "array_of", None)
    return None if array_of is None else array_of(media)


def _encode_run(
    parts: Sequence[Part], codec: Codec, goes_on: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids and flags of parts that are one text, or the rest of one that goes on."""
    flags = [IN_LOSS * part.in_loss + ANSWER * part.is_answer for part in parts]
    if parts[0].media is not None:
        ids = _encode_media(parts[0].media, codec)
        if _array_of(parts[0].media, codec) is None:
            return ids, np.full(len(ids), flags[0], np.uint8)
        of_vectors = np.zeros(len(ids), np.uint8)
        draws = getattr(codec, "draws", None)
        if draws is not None and draws(parts[0].media.modality):
            of_vectors[0] = flags[0]  # That a picture begins; its patches have a loss of their own.
        elif parts[0].is_answer:
            raise DataError(
                f"a record answers with {parts[0].media.modality}, which the codec reads as "
                "vectors and no model writes: put it before the answer "
                "(interleave.reversed_rate=0), use a codec of codes, such as a palette, or draw it "
                "by flow (image_vectors.drawn, with @transfusion())."
            )
        return ids, of_vectors
    if not joins_pieces(codec):
        each = [codec.encode(part.text, parse_special=part.is_control) for part in parts]
        sizes = [len(one) for one in each]
        return np.concatenate(each), np.repeat(np.array(flags, np.uint8), sizes)
    encode = encode_pieces_after if goes_on else encode_pieces
    ids, offsets = encode(codec, [(part.text, part.is_control) for part in parts])
    ends = np.cumsum([len(part.text) for part in parts])
    for place, (part, after) in enumerate(itertools.pairwise(parts), start=1):
        is_joined = (offsets[:, 0] < ends[place - 1]) & (offsets[:, 1] > ends[place - 1])
        if part.is_answer and not after.is_answer and is_joined.any():
            (ids, flags), (more_ids, more_flags) = (
                _encode_run(parts[:place], codec, goes_on),
                _encode_run(parts[place:], codec, goes_on=True),
            )
            return np.concatenate([ids, more_ids]), np.concatenate([flags, more_flags])
    owner = piece_of(offsets, [part.text for part in parts])
    return ids, np.array(flags, np.uint8)[owner]


def _encode_media(media: Media, codec: Codec) -> np.ndarray:
    encode = getattr(codec, "encode_media", None)
    if encode is None:
        raise DataError(
            f"a record has {media.modality}, and {type(codec).__name__} is a codec of text alone: "
            "give the task a multimodal_codec with one of this modality (see mixtures/sprites.gin)."
        )
    return encode(media)


def parts_of(record: dict[str, Any]) -> list[Part] | None:
    """Returns the parts that a preprocessor has left in a record; None if it has none."""
    parts = record.get(PARTS)
    return None if parts is None else [Part(*part) for part in parts]
