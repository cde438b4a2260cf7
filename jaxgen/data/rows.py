"""Rows of a task: tokenised once, or in each epoch, and cached; or made on the spot."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import opening_ids
from jaxgen.data.draws import Draws
from jaxgen.data.generated_rows import GeneratedRows
from jaxgen.data.packing import DocumentRows, PackedRows, Rows, RowShape
from jaxgen.data.parts import ANSWER, Example
from jaxgen.data.protocols import Denoising, Epoch, RecordSource, Sizes, Split, TokenSource
from jaxgen.data.redrawn_rows import RedrawnRows
from jaxgen.data.segments import Segment, example_segment
from jaxgen.data.tasks import Task
from jaxgen.data.token_store import TokenStore, cached_store
from jaxgen.errors import DataError

logger = logging.getLogger(__name__)
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
        if task.draws and split == "train":
            return RedrawnRows(functools.partial(_epoch_rows, task, shape, seed))
        return _stored_rows(task, shape, seed, open_store(task, split, shape.has_source))
    except DataError as error:
        named = str(error).startswith(f"task {task.name}:")
        raise error if named else DataError(f"task {task.name}: {error}") from error


def _epoch_rows(task: Task, shape: RowShape, seed: int, number: int) -> DocumentRows | PackedRows:
    """Opens the rows of one epoch of a task whose preprocessors draw."""
    store = open_store(task, "train", shape.has_source, Epoch(seed, task.name, number))
    return _stored_rows(task, shape, seed, store, is_later=number > 0)


def _stored_rows(
    task: Task, shape: RowShape, seed: int, store: TokenStore, is_later: bool = False
) -> DocumentRows | PackedRows:
    if task.features.is_split and task.features.denoising is None:
        if shape.has_source:
            raise DataError(
                "text without a denoising gives an encoder nothing to read; set text.denoising "
                "to prefix_lm or span_corruption, or leave out train.source_length."
            )
        return DocumentRows(task.name, store, task.codec, shape, seed)
    return _packed_rows(task, store, shape, seed, is_later)


def open_store(
    task: Task, split: Split, has_source: bool = False, epoch: Epoch | None = None
) -> TokenStore:
    """Opens the tokens of a task's records, made now if they are not in the cache.

    Args:
      task: the task.
      split: "train" or "heldout".
      has_source: see `Features.encode`.
      epoch: see `Context.epoch`.
    """
    source = task.source
    if isinstance(source, TokenSource):
        if not task.features.is_split:
            raise DataError(f"{source} holds tokens of documents: its task has features text.")
        if not task.preprocessors:
            return source.tokens(split, task.codec)
    assert isinstance(source, RecordSource | TokenSource), "indexed sources have no store"
    digests = (getattr(step, "content_digest", None) for step in task.preprocessors)
    files = (digest() for digest in digests if digest is not None)
    parts = (source.content_digest(), source, task.preprocessors, *files)
    identity = (*parts, *task.features.identity(), task.codec.digest, TOKENISATION, split)
    if task.train_share < 1:
        identity = (*identity, task.train_share)
    if has_source and task.has_answers:
        identity = (*identity, "encoder")
    if epoch is not None:
        identity = (*identity, epoch)
    examples = functools.partial(task.examples, split, has_source, epoch)
    return cached_store(identity, task.codec.vocab_size, examples)


def _packed_rows(
    task: Task, store: TokenStore, shape: RowShape, seed: int, is_later: bool
) -> PackedRows:
    """Packs chunks of documents or whole examples, with or without a denoising.

    What does not fit a row is an error at the start; a later epoch's draws must not end a run.
    """
    codec, has_source = task.codec, shape.has_source
    denoising, lengths = task.features.denoising, store.lengths
    if task.features.is_split and denoising is not None:
        pieces = _cut_into_chunks(lengths, _longest_chunk(denoising, codec, shape))
    else:
        every = np.arange(len(lengths))
        pieces = np.stack([every, np.zeros_like(every), lengths], axis=1)
    if denoising is None:
        sizes = _example_sizes(store, codec, has_source)
    else:
        sizes = denoising.sizes(pieces[:, 2] - pieces[:, 1], codec, has_source)
    if is_later:
        fits = (sizes[0] <= shape.length) & (sizes[1] <= (shape.source_length or 0))
        if not fits.all():
            left_out = int((~fits).sum())
            logger.warning(
                "task %s: %d of an epoch's examples do not fit a row of %d and are left out",
                task.name, left_out, shape.length,
            )  # fmt: skip
            pieces, sizes = pieces[fits], (sizes[0][fits], sizes[1][fits])

    def segment(example: Example, draws: Draws, number: int) -> Segment:
        if denoising is None:
            return example_segment(example, codec, has_source)
        more = {"other": _others(store, number, draws)} if task.has_pairs else {}
        segment = denoising.segment(example.ids, codec, draws, has_source, **more)
        return segment._replace(media=example.media)

    return PackedRows(task.name, pieces, sizes, segment, store, codec.pad_id, shape, seed)


def _others(store: TokenStore, number: int, draws: Draws) -> Callable[[int], np.ndarray]:
    """Returns a function that draws up to so many tokens of another example than one.

    Raises:
      DataError: when it is called and there is no other.
    """

    def other(size: int) -> np.ndarray:
        lengths = store.lengths
        if len(lengths) < 2:
            raise DataError("pairs of spans of two documents need two documents or more.")
        chosen = int(draws.integers(1, len(lengths) - 1)[0])
        chosen += chosen >= number
        start = int(draws.integers(1, max(1, int(lengths[chosen]) - size + 1))[0])
        return store.example(chosen, start, start + size).ids

    return other


def _cut_into_chunks(lengths: np.ndarray, longest: int) -> np.ndarray:
    """Returns [chunks, 3]: example, start, stop of chunks of up to `longest` tokens."""
    counts = -(-lengths // longest)
    example = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(example)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = number * longest
    return np.stack([example, start, np.minimum(start + longest, lengths[example])], axis=1)


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


def _example_sizes(store: TokenStore, codec: Codec, has_source: bool) -> Sizes:
    lengths, begin = store.lengths, len(opening_ids(codec))
    if not has_source:
        return lengths + begin, np.zeros_like(lengths)
    prompts = [_prompt_length(store.example(index)) for index in range(len(lengths))]
    prompt = np.array(prompts, np.int64)
    return lengths - prompt + begin, prompt + 1


def _prompt_length(example: Example) -> int:
    answers = np.flatnonzero((0 if example.flags is None else example.flags) & ANSWER)
    return int(answers[0]) if len(answers) else 0
