"""Records for a person beside the model's view of them: inputs, targets and loss weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.data.draws import Draws
from jaxgen.data.hashing import permutation
from jaxgen.data.parts import Example
from jaxgen.data.protocols import Record, Split
from jaxgen.data.rows import open_store
from jaxgen.data.sampling import sample
from jaxgen.data.segments import Segment, example_segment
from jaxgen.data.tasks import Task

WIDTH = 100


@dataclasses.dataclass(frozen=True)
class Shown:
    """One record on its way to the model.

    Attributes:
      record: the source's record.
      processed: the records that the preprocessors made of it; none where they left it out.
      segments: the segment of each, if they are encoded.
    """

    record: Record
    processed: list[Record]
    segments: list[Segment]

    def short(self) -> str:
        """Returns the record as JSON, long texts cut."""
        return short(self.record)


def show(
    task: Task,
    count: int,
    seed: int,
    longest: int,
    has_source: bool,
    split: Split = "train",
    encodes: bool = True,
) -> list[Shown]:
    """Returns `count` records of a split, chosen by the seed; documents are cut to `longest`.

    Without `encodes` records have no segments: of data that are not made of tokens alone.
    """
    if task.is_tokenised:
        return list(_documents(task, count, seed, longest, has_source, split))
    if task.is_indexed:
        places = range(seed * count, (seed + 1) * count)
        records = task.records_by_index(split).__getitems__(places)
    else:
        records = sample(task.raw_records(split), count, seed, task.name, "shown")
    shown = []
    for record in records:
        processed = list(task.processed([record]))
        examples = task.encode(processed, has_source) if encodes else ()
        segments = [
            segment_of(task, e, Draws(seed, "shown"), longest, has_source) for e in examples
        ]
        shown.append(Shown(record, processed, segments))
    return shown


def _documents(
    task: Task, count: int, seed: int, longest: int, has_source: bool, split: Split
) -> Iterator[Shown]:
    """Yields documents of a tokenised source, whose records are their tokens' text."""
    store = open_store(task, split, has_source)
    for place in permutation(len(store.lengths), seed, task.name, "shown")[:count]:
        example = store.example(int(place))
        record = {"text": task.codec.decode(example.ids)}
        segment = segment_of(task, example, Draws(seed, "shown"), longest, has_source)
        yield Shown(record, [record], [segment])


def segment_of(
    task: Task, example: Example, draws: Draws, longest: int, has_source: bool
) -> Segment:
    """Returns the segment of an example, or of the beginning of a document."""
    features = task.features
    if features.denoising is not None:
        ids = example.ids[:longest] if features.is_split else example.ids
        return features.denoising.segment(ids, task.codec, draws, has_source)
    if not features.is_split:
        return example_segment(example, task.codec, has_source)
    whole = example_segment(example, task.codec, has_source=False)
    return Segment(whole.tokens[:longest], whole.targets[:longest], whole.weights[:longest])


def short(record: Record) -> str:
    """Returns a record as JSON, long texts cut."""
    cut = {
        name: value[:400] + "..." if isinstance(value, str) and len(value) > 400 else value
        for name, value in record.items()
    }
    return json.dumps(cut, ensure_ascii=False, default=_described)


def _described(value: object) -> str:
    """Returns a text for what JSON has none for: of an array its kind, as it may be a picture."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, bytes | bytearray):
        return f"{len(value):,} bytes"
    return str(value)


def lines(segment: Segment, codec: Codec) -> Iterator[str]:
    """Yields a segment as lines of text: one column per token, folded at `WIDTH`."""
    if segment.source is not None:
        yield from _folded([("encoder", codec.pieces(segment.source))])
    rows = [
        ("input", codec.pieces(segment.tokens)),
        ("target", codec.pieces(segment.targets)),
        ("weight", [f"{weight:g}" for weight in segment.weights]),
    ]
    if segment.blocks is not None and (np.diff(segment.blocks) == 0).any():
        rows.append(("block", [str(block) for block in segment.blocks]))
    if segment.modalities is not None and segment.places is not None:
        of_media = zip(segment.places.tolist(), segment.modalities, strict=True)
        rows.append(("place", [",".join(map(str, one)) if n else "" for one, n in of_media]))
    yield from _folded(rows)


def _folded(rows: list[tuple[str, list[str]]]) -> Iterator[str]:
    heading = max(len(name) for name, _ in rows) + 2
    columns = list(zip(*(cells for _, cells in rows), strict=True))
    widths = [max(map(len, column)) for column in columns]
    start = 0
    while start < len(columns):
        stop, used = start, heading
        while stop < len(columns) and (stop == start or used + widths[stop] < WIDTH):
            used += widths[stop] + 1
            stop += 1
        for name, cells in rows:
            shown = (
                cell.ljust(width)
                for cell, width in zip(cells[start:stop], widths[start:stop], strict=True)
            )
            yield f"{name:{heading}}{' '.join(shown)}".rstrip()
        start = stop
