"""Prompts and completions as one text: encoded together, divided by characters, decoded together.

A tokenizer may write " Paris" as another token at the beginning of a text than after "Answer:", and
may join the last characters of a prompt with the first of an answer. A codec for which that is so
has `encode_pieces`, and may have `stop_ids`, `adds_begin`, `begin_ids` and `num_bytes`, beside what
`Codec` asks of it.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.errors import DataError

Piece = tuple[str, bool]
"""A piece of a text, and whether names of control tokens in it are those tokens."""
Encoded = tuple[np.ndarray, np.ndarray]
"""Ids, [length] int32, and of each the first character and the one after its last, [length, 2]."""


def stop_ids(codec: Codec, texts: Sequence[str] = ()) -> tuple[int, ...]:
    """Returns all ids that end what is generated, the end token's first.

    Args:
      codec: of the model.
      texts: stops, some of which may be names of control tokens, such as "<|im_end|>". Decoded
        text has no control tokens, so that these end an answer by their ids alone.
    """
    found = list(getattr(codec, "stop_ids", (codec.end_id,)))
    for text in texts:
        with contextlib.suppress(DataError):
            found.append(codec.special_id(text))
    return tuple(dict.fromkeys(found))


def begin_ids(codec: Codec) -> tuple[int, ...]:
    """Returns the ids before every text: the begin token's alone, several (GLM's), or none."""
    return opening_ids(codec) if getattr(codec, "adds_begin", True) else ()


def opening_ids(codec: Codec) -> tuple[int, ...]:
    """Returns the ids before what would otherwise be empty, also where texts begin with none."""
    return getattr(codec, "begin_ids", (codec.begin_id,))


def joins_pieces(codec: Codec) -> bool:
    """Returns whether pieces encoded together may have other tokens than each by itself."""
    return hasattr(codec, "encode_pieces")


def encode_pieces(codec: Codec, pieces: Sequence[Piece]) -> Encoded:
    """Encodes the pieces of one text as that text.

    Returns:
      Its ids and their characters. No id of a control token lies in a piece that names none.
    """
    own: Any = codec
    return own.encode_pieces(pieces) if joins_pieces(codec) else _encode_apart(codec, pieces)


def encode_pieces_after(codec: Codec, pieces: Sequence[Piece]) -> Encoded:
    """Encodes the pieces of a text that goes on from another, no token of which may join them.

    A tokenizer that writes a space before the first word of a text writes none here. The text
    before is a mark that is cut off again: the first that the tokenizer joins with nothing.
    """
    for mark in ("\n", "."):
        ids, offsets = encode_pieces(codec, [(mark, False), *pieces])
        after = offsets[:, 1] > len(mark)
        if (offsets[after, 0] >= len(mark)).all():
            return ids[after], offsets[after] - len(mark)
    return encode_pieces(codec, pieces)


def encode_sections(
    pieces: Sequence[Piece], controls: Mapping[str, int], encode: Callable[[str], Encoded]
) -> Encoded:
    """Encodes the text between control tokens, section by section, whatever pieces it is of.

    Args:
      pieces: of one text.
      controls: the id of each control token by its name.
      encode: encodes a text in which no name is a control token.
    """
    names = re.compile("|".join(map(re.escape, sorted(controls, key=len, reverse=True))))
    text, start, cuts = "".join(piece for piece, _ in pieces), 0, [(0, 0)]
    for piece, is_control in pieces:
        if is_control:
            cuts += [(start + m.start(), start + m.end()) for m in names.finditer(piece)]
        start += len(piece)
    ids, offsets = [np.zeros(0, np.int32)], [np.zeros((0, 2), np.int32)]
    for (first, last), (following, _) in itertools.pairwise([*cuts, (start, start)]):
        if last > first:
            ids.append(np.array([controls[text[first:last]]], np.int32))
            offsets.append(np.array([[first, last]], np.int32))
        if following > last:
            section, characters = encode(text[last:following])
            ids.append(section)
            offsets.append(characters + last)
    return np.concatenate(ids), np.concatenate(offsets)


def piece_of(offsets: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Returns the piece that each token belongs to: that of its last character.

    Args:
      offsets: [tokens, 2] characters of the joined text; see `encode_pieces`.
      texts: the pieces.

    Returns:
      [tokens] int64, never falling.
    """
    ends = np.cumsum([len(text) for text in texts])
    last = np.maximum(np.maximum.accumulate(offsets[:, 1]), 1)
    return np.minimum(np.searchsorted(ends, last), len(texts) - 1)


def num_bytes(codec: Codec, ids: np.ndarray) -> int:
    """Returns the bytes of the text of some tokens, which may begin or end within a character."""
    own = getattr(codec, "num_bytes", None)
    if own is not None:
        return own(ids)
    # What is no whole character decodes to a mark of three bytes, mostly for one.
    return len(codec.decode(ids).replace("\ufffd", "?").encode())


def encode_continued(codec: Codec, prompt: str, completion: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of a prompt and of its completion; a token of both is the completion's."""
    ids, offsets = encode_pieces(codec, [(prompt, False), (completion, False)])
    of_prompt = piece_of(offsets, (prompt, completion)) == 0
    return ids[of_prompt], ids[~of_prompt]


def decode_continued(codec: Codec, prompt: np.ndarray, completion: np.ndarray) -> str:
    """Returns the text that a completion adds to the text of its prompt."""
    before = codec.decode(prompt)
    whole = codec.decode(np.concatenate([prompt, completion]).astype(np.int32))
    return whole[len(before) :] if whole.startswith(before) else codec.decode(completion)


def _encode_apart(codec: Codec, pieces: Sequence[Piece]) -> Encoded:
    ids, offsets, start = [np.zeros(0, np.int32)], [np.zeros((0, 2), np.int32)], 0
    for text, is_control in pieces:
        ids.append(codec.encode(text, parse_special=is_control))
        offsets.append(np.tile([start, start + len(text)], (len(ids[-1]), 1)).astype(np.int32))
        start += len(text)
    return np.concatenate(ids), np.concatenate(offsets)
