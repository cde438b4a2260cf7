"""What a frozen encoder makes of captions, for models that are trained without it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.data.caption_encodings import caption_key
from jaxgen.data.epoch_records import EpochRecords
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.protocols import Split
from jaxgen.distributed import fetch
from jaxgen.errors import ConfigError, NoRecordsError
from jaxgen.training.loading import put_batch

SPLITS: tuple[Split, ...] = ("train", "heldout")
RECORDS = 256
"""Read at a time."""


def distinct_captions(pairs: ImageTextPairs, length: int) -> dict[int, np.ndarray]:
    """Returns the tokens of all captions of both splits by their keys, an empty one's first.

    Args:
      pairs: whose records are stored.
      length: of a row; a longer caption is cut to it.

    Raises:
      ConfigError: if records are made on the spot or drawn, others in each epoch.
    """
    task, codec = pairs.task, pairs.codec
    if task.is_indexed or task.draws:
        raise ConfigError(
            f"jaxgen prepare --captions is for stored records, and those of {task.name} are made "
            "or drawn anew in each epoch: leave the encoder in the model, or write the records "
            "to files first (`jaxgen tasks`)."
        )
    empty = np.array([codec.begin_id, codec.end_id], np.int32)
    found = {int(caption_key(empty)): empty}
    for split in SPLITS:
        try:
            records = EpochRecords(task, 0, split, "captions")
        except NoRecordsError:
            continue  # Such a split is asked for nothing later, either.
        for first in range(0, records.num_records, RECORDS):
            places = range(first, min(first + RECORDS, records.num_records))
            texts = pairs.captions(records.at(places, in_order=False))
            for ids, count in zip(*pairs.tokens(texts, length), strict=True):
                found.setdefault(int(caption_key(ids[:count])), ids[:count].copy())
    return found


def caption_states(
    encoder: Any, rows: Iterable[np.ndarray], length: int, pad_id: int, batch_size: int
) -> Iterator[np.ndarray]:
    """Yields the states of each caption: of its tokens, or of its whole row with the padding.

    Call under `jax.set_mesh`.

    Args:
      encoder: a `CaptionEncoder` with its transformer.
      rows: the tokens of captions.
      length: that rows are filled up to.
      pad_id: with what.
      batch_size: rows at a time; the last are filled up with a repetition.
    """
    rows = list(rows)
    read = jax.jit(lambda model, tokens, lengths: model.states(tokens, lengths))
    mesh, rules = jax.sharding.get_mesh(), encoder.model.layout.rules
    whole = not encoder.config.masks_padding
    for first in range(0, len(rows), batch_size):
        some = rows[first : first + batch_size]
        lengths = np.full(batch_size, len(some[0]), np.int32)
        tokens = np.full((batch_size, length), pad_id, np.int32)
        for place in range(batch_size):
            ids = some[place] if place < len(some) else some[0]
            tokens[place, : len(ids)], lengths[place] = ids, len(ids)
        found = fetch(read(encoder, *put_batch((tokens, lengths), mesh, rules)))
        for place, ids in enumerate(some):
            yield found[place] if whole else found[place, : len(ids)]


def states_of_rows(
    encoder: Any, codec: Codec, tokens: np.ndarray, lengths: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns `PairBatch.states` and `empty_states` of captions, by name.

    Call under `jax.set_mesh`.

    Args:
      encoder: a `CaptionEncoder` with its transformer.
      codec: of the tokens.
      tokens: [captions, length] int32.
      lengths: [captions].
    """
    count, length = tokens.shape
    rows = [np.array([codec.begin_id, codec.end_id], np.int32)]
    rows += [ids[:most] for ids, most in zip(tokens, lengths, strict=True)]
    empty, *found = caption_states(encoder, rows, length, codec.pad_id, min(len(rows), 16))
    states = np.zeros((count, length, empty.shape[1]), np.float32)
    for row, one in zip(states, found, strict=True):
        row[: len(one)] = one
    return {"states": states, "empty_states": np.repeat(empty[None], count, axis=0)}
