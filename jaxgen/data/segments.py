"""A segment: what one document or example puts into a row, for either make of model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.data.parts import ANSWER, LEARNT, Example


class Segment(NamedTuple):
    """Arrays [n] of a row, and [m] of the encoder's.

    Attributes:
      tokens: what the model reads.
      targets: what it must predict at each.
      weights: float32, 0 where nothing is to be learnt.
      blocks: int32, growing; tokens of one block see each other in block-causal layers. None: each
        token is its own.
      source: what an encoder reads; None in a model without one.
    """

    tokens: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    blocks: np.ndarray | None = None
    source: np.ndarray | None = None


def continuation(
    given: np.ndarray, wanted: np.ndarray, codec: Codec, has_source: bool, weights=None
) -> Segment:
    """A segment in which `wanted` and the end follow `given`.

    Args:
      given: [m] ids; a prefix that sees all of itself, or the encoder's source, which the end
        token closes.
      wanted: [n] ids.
      codec: of the begin and end tokens.
      has_source: whether there is an encoder to read what is given.
      weights: [n] of what is wanted; None: 1. The end is always learnt.
    """
    learnt = np.ones(len(wanted) + 1, np.float32)
    if weights is not None:
        learnt[:-1] = weights
    targets = np.append(wanted, codec.end_id).astype(np.int32)
    if has_source:
        tokens = np.concatenate([[codec.begin_id], wanted]).astype(np.int32)
        return Segment(tokens, targets, learnt, source=np.append(given, codec.end_id))
    tokens = np.concatenate([[codec.begin_id], given, wanted]).astype(np.int32)
    # The begin token and what is given are one block.
    blocks = np.maximum(np.arange(len(tokens)), len(given))
    none = np.zeros(len(given), np.float32)
    return Segment(
        tokens,
        np.concatenate([given, targets]).astype(np.int32),
        np.concatenate([none, learnt]),
        blocks.astype(np.int32),
    )


def example_segment(example: Example, codec: Codec, has_source: bool) -> Segment:
    """An example's segment: what comes before its first answer is given."""
    ids, flags = example.ids, example.flags
    if flags is None:
        flags = np.full(len(ids), LEARNT, np.uint8)
    answers = np.flatnonzero(flags & ANSWER)
    first = int(answers[0]) if len(answers) else 0
    learnt = (flags & LEARNT > 0).astype(np.float32)
    segment = continuation(ids[:first], ids[first:], codec, has_source, learnt[first:])
    if not has_source:
        segment.weights[:first] = learnt[:first]
    return segment


def sizes_of(segments: Sequence[Segment]) -> tuple[np.ndarray, np.ndarray]:
    """[segments] tokens in rows, and in the encoder's rows."""
    sources = [0 if segment.source is None else len(segment.source) for segment in segments]
    return np.array([len(segment.tokens) for segment in segments]), np.array(sources)
