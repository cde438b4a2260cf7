"""Rows of a task: tokenised once and cached, or made on the spot."""

from __future__ import annotations

import functools

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.data.draws import Draws
from jaxgen.data.generated_rows import GeneratedRows
from jaxgen.data.packing import DocumentRows, PackedRows, Rows, RowShape, cut_into_chunks
from jaxgen.data.parts import ANSWER, Example
from jaxgen.data.protocols import Denoising, RecordSource, Sizes, Split, TokenSource
from jaxgen.data.segments import Segment, example_segment
from jaxgen.data.tasks import Task
from jaxgen.data.token_store import TokenStore, cached_store
from jaxgen.errors import DataError

TOKENISATION = "parts are one text"
"""Part of what stored tokens are known by; a change of how texts become tokens changes it."""


def open_rows(task: Task, shape: RowShape, seed: int, split: Split) -> Rows:
    """Opens the rows of a task.

    Raises:
      DataError: if its source cannot be read, or does not fit the rows.
    """
    try:
        if task.is_indexed:
            return GeneratedRows(task, shape, seed, split)
        store = open_store(task, split, shape.has_source)
        if task.features.is_split and task.features.denoising is None:
            if shape.has_source:
                raise DataError(
                    "text without a denoising gives an encoder nothing to read; set text.denoising "
                    "to prefix_lm or span_corruption, or leave out train.source_length."
                )
            return DocumentRows(task.name, store, task.codec, shape, seed)
        return _packed_rows(task, store, shape, seed)
    except DataError as error:
        named = str(error).startswith(f"task {task.name}:")
        raise error if named else DataError(f"task {task.name}: {error}") from error


def open_store(task: Task, split: Split, has_source: bool = False) -> TokenStore:
    """Opens the tokens of a task's records, made now if they are not in the cache.

    Args:
      task: the task.
      split: "train" or "heldout".
      has_source: see `Features.encode`.
    """
    source = task.source
    if isinstance(source, TokenSource):
        if task.preprocessors or not task.features.is_split:
            raise DataError(
                f"{source} holds tokens of documents: its task has features text and no "
                "preprocessors, which are the preparation's."
            )
        return source.tokens(split, task.codec)
    assert isinstance(source, RecordSource), "indexed sources have no store"
    parts = (source.content_digest(), source, task.preprocessors)
    identity = (*parts, *task.features.identity(), task.codec.digest, TOKENISATION, split)
    if task.train_share < 1:
        identity = (*identity, task.train_share)
    if has_source and task.has_answers:
        identity = (*identity, "encoder")
    examples = functools.partial(task.examples, split, has_source)
    return cached_store(identity, task.codec.vocab_size, examples)


def _packed_rows(task: Task, store: TokenStore, shape: RowShape, seed: int) -> PackedRows:
    """Packs chunks of documents or whole examples, with or without a denoising."""
    codec, has_source = task.codec, shape.has_source
    denoising, lengths = task.features.denoising, store.lengths
    if task.features.is_split and denoising is not None:
        pieces = cut_into_chunks(lengths, _longest_chunk(denoising, codec, shape))
    else:
        every = np.arange(len(lengths))
        pieces = np.stack([every, np.zeros_like(every), lengths], axis=1)
    if denoising is None:
        sizes = _example_sizes(store, has_source)
    else:
        sizes = denoising.sizes(pieces[:, 2] - pieces[:, 1], codec, has_source)

    def segment(example: Example, draws: Draws) -> Segment:
        if denoising is None:
            return example_segment(example, codec, has_source)
        return denoising.segment(example.ids, codec, draws, has_source)

    return PackedRows(task.name, pieces, sizes, segment, store, codec.pad_id, shape, seed)


def _longest_chunk(denoising: Denoising, codec: Codec, shape: RowShape) -> int:
    """Returns the most tokens of a document whose segment always fits a row."""
    lengths = np.arange(1, shape.length + (shape.source_length or 0) + 1)
    rows, sources = denoising.sizes(lengths, codec, shape.has_source)
    fits = (rows <= shape.length) & (sources <= (shape.source_length or 0))
    if not fits[0]:
        raise DataError(
            f"rows of {shape.length} (and an encoder's of {shape.source_length}) tokens are too "
            "short for a single token with its sentinels; set a larger train.length."
        )
    return int(np.argmin(fits)) if not fits.all() else int(lengths[-1])


def _example_sizes(store: TokenStore, has_source: bool) -> Sizes:
    lengths = store.lengths
    if not has_source:
        return lengths + 1, np.zeros_like(lengths)
    prompts = [_prompt_length(store.example(index)) for index in range(len(lengths))]
    prompt = np.array(prompts, np.int64)
    return lengths - prompt + 1, prompt + 1


def _prompt_length(example: Example) -> int:
    answers = np.flatnonzero((0 if example.flags is None else example.flags) & ANSWER)
    return int(answers[0]) if len(answers) else 0
