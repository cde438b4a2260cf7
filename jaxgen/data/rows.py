"""From a task to its rows: tokenised once and cached, or made on the spot."""

from __future__ import annotations

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.data.denoising import NextToken, Objective
from jaxgen.data.draws import Draws
from jaxgen.data.features import Text
from jaxgen.data.generated_rows import GeneratedRows
from jaxgen.data.packing import (
    DocumentRows,
    Layout,
    PackedRows,
    Rows,
    cut_into_chunks,
)
from jaxgen.data.parts import ANSWER, Example
from jaxgen.data.prepared import PreparedCorpus
from jaxgen.data.segments import Segment, example_segment
from jaxgen.data.sources import Split
from jaxgen.data.tasks import Generated, Task
from jaxgen.data.token_store import TokenStore, cached_store
from jaxgen.errors import DataError


def open_rows(task: Task, layout: Layout, seed: int, split: Split) -> Rows:
    """A task's rows.

    Raises:
      DataError: if its source cannot be read, or does not fit the layout.
    """
    try:
        if isinstance(task.source, Generated):
            return GeneratedRows(task, layout, seed, split)
        store = open_store(task, split)
        if not isinstance(task.features, Text):
            return _example_rows(task, store, layout, seed)
        objective = task.features.objective
        if not isinstance(objective, NextToken):
            return _chunk_rows(task, objective, store, layout, seed)
        if layout.has_source:
            raise DataError(
                "the objective next_token gives an encoder nothing to read; use prefix_lm or "
                "span_corruption, or leave out train.source_length."
            )
        return DocumentRows(task.name, store, task.codec, layout, seed)
    except DataError as error:
        named = str(error).startswith(f"task {task.name}:")
        raise error if named else DataError(f"task {task.name}: {error}") from error


def open_store(task: Task, split: Split) -> TokenStore:
    """The tokens of a task's records."""
    if isinstance(task.source, PreparedCorpus):
        return _prepared_store(task, task.source, split)
    parts = (task.source.content_digest(), task.source, task.preprocessors)
    identity = (*parts, *task.features.identity(), task.codec.digest, split)
    if task.train_share < 1:
        identity = (*identity, task.train_share)
    return cached_store(identity, task.codec.vocab_size, lambda: task.examples(split))


def _prepared_store(task: Task, corpus: PreparedCorpus, split: Split) -> TokenStore:
    if corpus.codec_digest != task.codec.digest:
        raise DataError(
            f"{corpus.folder} was tokenised by {corpus.codec_digest}, and the task's codec is "
            f"{task.codec.digest}: give the task that tokenizer, or prepare the corpus again."
        )
    if task.preprocessors or not isinstance(task.features, Text):
        raise DataError(
            f"{corpus.folder} holds tokens of documents: its task has features text and no "
            "preprocessors, which are the preparation's."
        )
    return TokenStore(corpus.places(split))


def _chunk_rows(
    task: Task, objective: Objective, store: TokenStore, layout: Layout, seed: int
) -> PackedRows:
    codec, has_source = task.codec, layout.has_source
    pieces = cut_into_chunks(store.lengths, _longest_chunk(objective, codec, layout))
    sizes = objective.sizes(pieces[:, 2] - pieces[:, 1], codec, has_source)

    def segment(example: Example, draws: Draws) -> Segment:
        return objective.segment(example.ids, codec, draws, has_source)

    return PackedRows(task.name, pieces, sizes, segment, store, codec.pad_id, layout, seed)


def _longest_chunk(objective: Objective, codec: Codec, layout: Layout) -> int:
    """The most tokens of a document that always fit a row."""
    lengths = np.arange(1, layout.length + (layout.source_length or 0) + 1)
    rows, sources = objective.sizes(lengths, codec, layout.has_source)
    fits = (rows <= layout.length) & (sources <= (layout.source_length or 0))
    if not fits[0]:
        raise DataError(
            f"rows of {layout.length} (and an encoder's of {layout.source_length}) tokens are too "
            "short for a single token with its sentinels; set a larger train.length."
        )
    return int(np.argmin(fits)) if not fits.all() else int(lengths[-1])


def _example_rows(task: Task, store: TokenStore, layout: Layout, seed: int) -> PackedRows:
    codec, has_source = task.codec, layout.has_source
    lengths = store.lengths
    if has_source:
        given = np.array([_num_given(store.example(i)) for i in range(len(lengths))], np.int64)
        sizes = lengths - given + 1, given + 1
    else:
        sizes = lengths + 1, np.zeros_like(lengths)
    every = np.arange(len(lengths))
    pieces = np.stack([every, np.zeros_like(every), lengths], axis=1)

    def segment(example: Example, draws: Draws) -> Segment:
        del draws
        return example_segment(example, codec, has_source)

    return PackedRows(task.name, pieces, sizes, segment, store, codec.pad_id, layout, seed)


def _num_given(example: Example) -> int:
    answers = np.flatnonzero((0 if example.flags is None else example.flags) & ANSWER)
    return int(answers[0]) if len(answers) else 0
