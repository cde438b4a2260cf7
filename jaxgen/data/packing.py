"""Rows of a fixed length, packed from segments, by random access.

Row r of a task is a function of (task, seed, r). Documents whose next tokens are predicted are laid
end to end in an order drawn anew each epoch and cut into rows; pieces that must stay whole are put
into rows once, and the rows are shuffled anew each epoch. Attention and positions are kept apart by
segment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import begin_ids
from jaxgen.codecs.media import ArrayForm, MediaRange
from jaxgen.data.bins import fill_bins
from jaxgen.data.draws import Draws
from jaxgen.data.hashing import permutation
from jaxgen.data.parts import IN_LOSS, Example
from jaxgen.data.segments import Segment
from jaxgen.data.token_store import TokenStore
from jaxgen.errors import DataError

Row = dict[str, np.ndarray]
MEDIA = "media_"
"""Begins the names of a row's arrays of media."""


class MediaSlots(NamedTuple):
    """The room that a row has for what a model reads of one modality's media.

    Attributes:
      modality: their modality.
      count: the most of a row.
      form: of one.
    """

    modality: str
    count: int
    form: ArrayForm


@dataclasses.dataclass(frozen=True)
class RowShape:
    """The shape of rows.

    Attributes:
      length: tokens of a row.
      source_length: tokens of the encoder's row; None where the model has no encoder.
      has_blocks: whether rows have block ids.
      has_pairs: whether rows have token types and labels of pairs of spans.
      has_media: whether rows have modalities and places.
      media: room for what a model reads of media beside their tokens.
    """

    length: int
    source_length: int | None = None
    has_blocks: bool = False
    has_pairs: bool = False
    has_media: bool = False
    media: tuple[MediaSlots, ...] = ()

    @property
    def has_source(self) -> bool:
        """Returns whether the model has an encoder."""
        return self.source_length is not None


class Rows(Protocol):
    """The rows of a task, without end.

    Attributes:
      rows_per_epoch: rows after which every document or example has been seen once.
      examples_per_epoch: number of different documents, examples or pieces of them.
      share_used: share of the rows' positions that is not padding; of a sample where examples are
        made on the spot.
    """

    @property
    def rows_per_epoch(self) -> int: ...

    @property
    def examples_per_epoch(self) -> int: ...

    @property
    def share_used(self) -> float: ...

    def row(self, index: int) -> Row:
        """Returns the row of any index from 0, arrays [length] or [source_length]."""
        ...


def pack_row(segments: Sequence[Segment], shape: RowShape, pad: int) -> Row:
    """Packs segments into one padded row.

    Returns:
      The fields of `Batch` but task_ids, with "source_tokens", "source_positions" and
      "source_segment_ids" for its encoder, and "media_" and a modality for what it has of each.
    """
    length = shape.length
    row: Row = {
        "tokens": np.full(length, pad, np.int32),
        "targets": np.full(length, pad, np.int32),
        "loss_weights": np.zeros(length, np.float32),
        "positions": np.zeros(length, np.int32),
        "segment_ids": np.zeros(length, np.int32),
    }
    if shape.has_blocks:
        row["block_ids"] = np.zeros(length, np.int32)
    if shape.has_pairs:
        row["token_types"] = np.zeros(length, np.int32)
        row["pair_labels"] = np.zeros(length, np.int32)
    if shape.has_media:
        row["modalities"] = np.zeros(length, np.int32)
        row["places"] = np.zeros((length, 3), np.int32)
    if shape.source_length is not None:
        row["source_tokens"] = np.full(shape.source_length, pad, np.int32)
        row["source_positions"] = np.zeros(shape.source_length, np.int32)
        row["source_segment_ids"] = np.zeros(shape.source_length, np.int32)
    for slots in shape.media:
        row[MEDIA + slots.modality] = np.zeros((slots.count, *slots.form.shape), slots.form.dtype)
        arrays = [m.values for s in segments for m in s.media if m.modality == slots.modality]
        for place, array in enumerate(arrays):
            row[MEDIA + slots.modality][place] = array
    start, source_start = 0, 0
    for number, segment in enumerate(segments, start=1):
        places = np.arange(len(segment.tokens), dtype=np.int32)
        part = slice(start, start + len(places))
        row["tokens"][part], row["targets"][part] = segment.tokens, segment.targets
        row["loss_weights"][part], row["positions"][part] = segment.weights, places
        row["segment_ids"][part] = number
        if shape.has_blocks:
            row["block_ids"][part] = places if segment.blocks is None else segment.blocks
        if shape.has_pairs:
            row["token_types"][part] = 0 if segment.types is None else segment.types
            row["pair_labels"][start] = segment.pair
        if segment.modalities is not None and segment.places is not None:
            row["modalities"][part], row["places"][part] = segment.modalities, segment.places
        start = part.stop
        if segment.source is not None:
            places = np.arange(len(segment.source), dtype=np.int32)
            part = slice(source_start, source_start + len(places))
            row["source_tokens"][part], row["source_positions"][part] = segment.source, places
            row["source_segment_ids"][part] = number
            source_start = part.stop
    return row


def slots_for(ranges: Sequence[MediaRange], length: int) -> tuple[MediaSlots, ...]:
    """Returns room for as many media that are vectors as rows of a length can hold."""
    return tuple(
        MediaSlots(one.modality, max(1, length // (one.size + one.around)), one.form)
        for one in ranges
        if one.form is not None
    )


class DocumentRows:
    """Documents end to end, cut every `length` tokens; an epoch's last part row is left out."""

    share_used = 1.0

    def __init__(self, name: str, store: TokenStore, codec: Codec, shape: RowShape, seed: int):
        self._store, self._codec, self._shape = store, codec, shape
        self._seed = (seed, name, "documents")
        self._begin = begin_ids(codec)
        self._added = max(len(self._begin), 1)  # Without begin tokens the end token is read.
        self.examples_per_epoch = len(store.lengths)
        total = int(np.sum(store.lengths)) + self._added * len(store.lengths)
        self.rows_per_epoch = total // shape.length
        if self.rows_per_epoch == 0:
            raise DataError(
                f"task {name}: its {total} tokens do not fill one row of {shape.length}; give "
                "more text, or a smaller train.length."
            )
        self._epoch: tuple[int, np.ndarray, np.ndarray] | None = None

    def row(self, index: int) -> Row:
        """Returns the row of an index."""
        epoch, window = divmod(index, self.rows_per_epoch)
        order, ends = self._order(epoch)
        position, stop = window * self._shape.length, (window + 1) * self._shape.length
        segments = []
        place = int(np.searchsorted(ends, position, side="right"))
        while position < stop:
            size = int(self._store.lengths[order[place]]) + self._added
            first = position - (int(ends[place]) - size)
            last = min(stop - position + first, size)
            segments.append(self._cut(int(order[place]), first, last))
            position += last - first
            place += 1
        return pack_row(segments, self._shape, self._codec.pad_id)

    def _cut(self, document: int, first: int, last: int) -> Segment:
        """Returns the segment of a document's tokens [first, last).

        The begin tokens are its first, and its end token the last. Begin tokens are in no loss; an
        end token that is read, where there is no begin token, predicts nothing.
        """
        begin, after = self._begin[first : last + 1], last + 1 - len(self._begin)
        example = self._store.example(document, max(first - len(self._begin), 0), max(after, 0))
        flags = np.full(len(example.ids), IN_LOSS) if example.flags is None else example.flags
        missing = last + 1 - first - len(begin) - len(example.ids)
        ends = [self._codec.end_id] * missing
        ids = np.concatenate([begin, example.ids, ends]).astype(np.int32)
        in_loss = np.concatenate([[0] * len(begin), flags & IN_LOSS > 0, [1, 0][:missing]])
        return Segment(ids[:-1], ids[1:], in_loss[1:].astype(np.float32))

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        cached = self._epoch
        if cached is None or cached[0] != epoch:
            lengths = self._store.lengths
            order = permutation(len(lengths), *self._seed, epoch)
            cached = self._epoch = (epoch, order, np.cumsum(lengths[order] + self._added))
        return cached[1], cached[2]


class PackedRows:
    """Whole pieces of a stored corpus, longest first into the first row they fit."""

    def __init__(
        self,
        name: str,
        pieces: np.ndarray,
        sizes: tuple[np.ndarray, np.ndarray],
        segment: Callable[[Example, Draws, int], Segment],
        store: TokenStore,
        pad: int,
        shape: RowShape,
        seed: int,
    ):
        """Packs pieces into rows.

        Args:
          name: the task's name.
          pieces: [pieces, 3] int64: an example and the start and stop of its tokens.
          sizes: [pieces] tokens that each takes in a row, and in the encoder's row.
          segment: makes the segment of a piece; told the number of its example too.
          store: the examples.
          pad: the id that fills rows.
          shape: the shape of the rows.
          seed: the seed of the order and of the draws.

        Raises:
          DataError: if a piece does not fit a row.
        """
        self._pieces, self._segment, self._store = pieces, segment, store
        self._pad, self._shape, self._seed = pad, shape, (seed, name)
        check_longest(name, sizes, shape)
        self.examples_per_epoch = len(pieces)
        self._bins = fill_bins(*as_one(sizes, shape))
        self.rows_per_epoch = len(self._bins)
        used = sum(int(np.sum(size)) for size in sizes)
        offered = len(self._bins) * (shape.length + (shape.source_length or 0))
        self.share_used = used / offered
        self._epoch: tuple[int, np.ndarray] | None = None

    def row(self, index: int) -> Row:
        """Returns the row of an index."""
        epoch, place = divmod(index, self.rows_per_epoch)
        ordered = self._epoch  # Threads may read rows of other epochs meanwhile.
        if ordered is None or ordered[0] != epoch:
            order = permutation(self.rows_per_epoch, *self._seed, "rows", epoch)
            ordered = self._epoch = (epoch, order)
        draws = Draws(*self._seed, "draws", index)
        segments = []
        for piece in self._bins[ordered[1][place]]:
            example, start, stop = (int(number) for number in self._pieces[piece])
            piece_of = self._store.example(example, start, stop)
            segments.append(self._segment(piece_of, draws, example))
        return pack_row(segments, self._shape, self._pad)


def check_longest(name: str, sizes: tuple[np.ndarray, np.ndarray], shape: RowShape) -> None:
    """Raises DataError if a piece of a task does not fit a row."""
    for size, room, setting in (
        (sizes[0], shape.length, "train.length"),
        (sizes[1], shape.source_length or 0, "train.source_length"),
    ):
        longest = int(np.max(size, initial=0))
        if longest > room:
            raise DataError(
                f"task {name}: an example of {longest} tokens does not fit a row of {room}, and "
                f"it may not be split; set {setting} to {longest} or more."
            )


def as_one(sizes: tuple[np.ndarray, np.ndarray], shape: RowShape) -> tuple[np.ndarray, int]:
    """Returns one size and capacity: a piece that fits by it fits both kinds of rows."""
    if shape.source_length is None:
        return sizes[0], shape.length
    both = np.maximum(sizes[0] * shape.source_length, sizes[1] * shape.length)
    return both, shape.length * shape.source_length
