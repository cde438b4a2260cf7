"""A segment: the tokens that one document or example puts into a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import begin_ids, opening_ids
from jaxgen.codecs.media import Media, locate, media_ranges
from jaxgen.data.parts import ANSWER, IN_LOSS, Example


class Segment(NamedTuple):
    """Arrays [n] of a row, and [m] of the encoder's row.

    Attributes:
      tokens: the model's input.
      targets: the token to predict at each position.
      weights: float32 loss weights, 0 outside the loss.
      blocks: int32, growing; tokens of one block see each other in block-causal layers. None: each
        token is its own.
      source: the encoder's input; None in a model without one.
      types: int32, the kind of each token; None: 0.
      pair: what the segment is as a pair of spans, see `Batch.pair_labels`.
      modalities: int32, what each token is of; None: text.
      places: [n, 3] int32, where each lies in its picture, sound or clip; None: all are text.
      media: see `Example.media`.
    """

    tokens: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    blocks: np.ndarray | None = None
    source: np.ndarray | None = None
    types: np.ndarray | None = None
    pair: int = 0
    modalities: np.ndarray | None = None
    places: np.ndarray | None = None
    media: tuple[Media, ...] = ()


def continuation(
    prompt: np.ndarray, completion: np.ndarray, codec: Codec, has_source: bool, weights=None
) -> Segment:
    """Returns a segment in which the completion and the end token follow the prompt.

    Args:
      prompt: [m] ids; a prefix that sees all of itself, or the encoder's input, which the end token
        closes.
      completion: [n] ids.
      codec: the codec of the begin and end tokens.
      has_source: whether an encoder reads the prompt.
      weights: [m + n] loss weights of both; None: 0 and 1. The end token always has 1, and a
        begin token and the encoder's input are in no loss.
    """
    is_bare = not has_source and len(prompt) > 0 and not begin_ids(codec)
    begin = opening_ids(codec)[-1:] if is_bare else opening_ids(codec)
    unpredicted = np.zeros(len(begin) - 1, np.float32)  # Begin tokens predict one another.
    prompt_weights = np.zeros(len(prompt), np.float32)
    in_loss = np.ones(len(completion) + 1, np.float32)
    if weights is not None:
        prompt_weights, in_loss[:-1] = weights[: len(prompt)], weights[len(prompt) :]
    targets = np.append(completion, codec.end_id).astype(np.int32)
    if has_source:
        return Segment(
            np.concatenate([begin, completion]).astype(np.int32),
            np.concatenate([begin[1:], targets]).astype(np.int32),
            np.concatenate([unpredicted, in_loss]),
            source=np.append(prompt, codec.end_id),
        )
    tokens = np.concatenate([begin, prompt, completion]).astype(np.int32)
    # The begin tokens and the prompt are one block.
    blocks = np.maximum(np.arange(len(tokens)), len(begin) - 1 + len(prompt))
    segment = Segment(
        tokens,
        np.concatenate([begin[1:], prompt, targets]).astype(np.int32),
        np.concatenate([unpredicted, prompt_weights, in_loss]),
        blocks.astype(np.int32),
    )
    return without_begin(segment) if is_bare else segment


def without_begin(segment: Segment) -> Segment:
    """Returns a segment that begins with its text; its size stays.

    Its last token, the end of the text, predicts nothing; and nothing predicts its first.
    """
    assert segment.blocks is not None and segment.source is None, "a prompt's, or a document's"
    end = segment.targets[-1:]
    return Segment(
        np.append(segment.tokens[1:], end),
        np.append(segment.targets[1:], end),
        np.append(segment.weights[1:], np.float32(0)),
        np.maximum(np.append(segment.blocks[1:], len(segment.blocks)) - 1, 0).astype(np.int32),
    )


def unended(segment: Segment) -> Segment:
    """Returns a segment whose last target in the loss, the end token, is not."""
    weights = segment.weights.copy()
    weights[np.flatnonzero(weights)[-1:]] = 0
    return segment._replace(weights=weights)


def example_segment(example: Example, codec: Codec, has_source: bool) -> Segment:
    """Returns an example's segment; its prompt is all that comes before the first answer."""
    ids, flags = example.ids, example.flags
    if flags is None:
        flags = np.full(len(ids), IN_LOSS, np.uint8)
    answers = np.flatnonzero(flags & ANSWER)
    first = int(answers[0]) if len(answers) else 0
    in_loss = (flags & IN_LOSS > 0).astype(np.float32)
    segment = continuation(ids[:first], ids[first:], codec, has_source, in_loss)
    ranges = media_ranges(codec)
    if not ranges:
        return segment
    modalities, places = locate(segment.tokens, ranges)
    return segment._replace(modalities=modalities, places=places, media=example.media)


def sizes_of(segments: Sequence[Segment]) -> tuple[np.ndarray, np.ndarray]:
    """Returns [segments] tokens in rows, and in the encoder's rows."""
    sources = [0 if segment.source is None else len(segment.source) for segment in segments]
    return np.array([len(segment.tokens) for segment in segments]), np.array(sources)
