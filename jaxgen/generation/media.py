"""Media in what is generated: where each token lies, and which tokens may come next.

A picture that was begun goes on with its codes, as many as it has, and its end token; text has no
codes. So whatever is generated to its end can be decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.codecs.media import Media, MediaRange, locate


class MediaState(NamedTuple):
    """What is being written; both [batch] int32.

    Attributes:
      medium: 0 for text, otherwise the number of the range, from 1.
      index: codes of it so far.
    """

    medium: Any
    index: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PromptMedia:
    """The media of a batch of prompts.

    Attributes:
      modalities: [batch, length] int32.
      places: [batch, length, 3] int32.
      state: after each prompt.
      arrays: see `Batch.media`.
    """

    modalities: Any
    places: Any
    state: MediaState
    arrays: Any = None


def media_of_prompts(
    tokens: np.ndarray,
    lengths: np.ndarray,
    ranges: Sequence[MediaRange],
    media: Sequence[Sequence[Media]] = (),
) -> PromptMedia:
    """Returns the media of prompts [batch, length] of so many tokens each.

    Args:
      tokens: the prompts.
      lengths: of each.
      ranges: the media of the vocabulary.
      media: of each prompt what the model reads beside its tokens, in order; (): nothing.
    """
    modalities = np.zeros(tokens.shape, np.int32)
    places = np.zeros((*tokens.shape, 3), np.int32)
    states = np.zeros((2, len(tokens)), np.int32)
    for row, length in enumerate(lengths):
        ids = tokens[row, :length]
        modalities[row, :length], places[row, :length] = locate(ids, ranges)
        number = int(modalities[row, length - 1])
        if number:
            frame, *inside = places[row, length - 1].tolist()
            grid = ranges[number - 1].grid
            index = int(np.ravel_multi_index((frame, *inside), grid)) + 1
            is_over = ranges[number - 1].end_id < 0 and index == ranges[number - 1].size
            states[:, row] = (0, 0) if is_over else (number, index)
        for place, one in enumerate(ranges, start=1):
            if ids[-1] == one.begin_id:
                states[:, row] = place, 0
    return PromptMedia(modalities, places, MediaState(*states), _arrays(ranges, media))


def _arrays(
    ranges: Sequence[MediaRange], media: Sequence[Sequence[Media]]
) -> dict[str, np.ndarray] | None:
    """Returns the arrays of each modality that any prompt has, [batch, media, ...]."""
    arrays = {}
    for one in ranges:
        of_rows = [[m.values for m in row if m.modality == one.modality] for row in media]
        most = max(map(len, of_rows), default=0)
        if one.form is not None and most:
            room = arrays[one.modality] = np.zeros(
                (len(media), most, *one.form.shape), one.form.dtype
            )
            for row, values in zip(room, of_rows, strict=True):
                for place, array in enumerate(values):
                    row[place] = array
    return arrays or None


def may_follow(state: MediaState, ranges: Sequence[MediaRange], vocab_size: int) -> jax.Array:
    """Returns which tokens may come next: [batch, vocab] bool."""
    ids = jnp.arange(vocab_size)
    medium, index = (x[:, None] for x in state)
    # Ids beyond the codec's only pad the model's vocabulary.
    ends = [one.first_id + one.num_codes for one in ranges if one.form is None]
    of_text = ids < max(ends, default=vocab_size)
    allowed = (medium < 0) & of_text
    for number, one in enumerate(ranges, start=1):
        is_code = (ids >= one.first_id) & (ids < one.first_id + one.num_codes)
        is_end = ids == one.end_id
        of_text &= ~is_code & ~is_end
        if one.form is not None:
            of_text &= ids != one.begin_id  # It is read and not written.
        is_whole = index >= one.size
        may_end = is_whole | (one.varies & (index > 0) & (index % one.frame == 0))
        allowed |= (medium == number) & ((is_code & ~is_whole) | (is_end & may_end))
    return allowed | ((medium == 0) & of_text)


def follow(
    state: MediaState, token: jax.Array, ranges: Sequence[MediaRange]
) -> tuple[MediaState, jax.Array, jax.Array]:
    """Returns the state after a token, and the token's modality [batch] and place [batch, 3].

    Args:
      state: before it.
      token: [batch] int32, one that may follow.
      ranges: the media of the vocabulary.
    """
    modality = jnp.zeros_like(token)
    medium, index = jnp.zeros_like(token), jnp.zeros_like(token)
    place = jnp.stack([medium] * 3, axis=-1)
    for number, one in enumerate(ranges, start=1):
        is_code = (token >= one.first_id) & (token < one.first_id + one.num_codes)
        modality = jnp.where(is_code, number, modality)
        frame, inside = jnp.divmod(state.index, one.frame)
        where = jnp.stack([frame, *jnp.divmod(inside, one.grid[2])], axis=-1)
        place = jnp.where(is_code[:, None], where, place)
        medium = jnp.where(is_code | (token == one.begin_id), number, medium)
        index = jnp.where(is_code, state.index + 1, index)
    return MediaState(medium, index), modality, place
