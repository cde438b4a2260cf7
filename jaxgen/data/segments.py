"""A segment: the tokens that one document or example puts into a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxgen.codecs.codec import Codec
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
    """

    tokens: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    blocks: np.ndarray | None = None
    source: np.ndarray | None = None


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
      weights: [n] loss weights of the completion; None: 1. The end token always has 1.
    """
    in_loss = np.ones(len(completion) + 1, np.float32)
    if weights is not None:
        in_loss[:-1] = weights
    targets = np.append(completion, codec.end_id).astype(np.int32)
    if has_source:
        tokens = np.concatenate([[codec.begin_id], completion]).astype(np.int32)
        return Segment(tokens, targets, in_loss, source=np.append(prompt, codec.end_id))
    tokens = np.concatenate([[codec.begin_id], prompt, completion]).astype(np.int32)
    # The begin token and the prompt are one block.
    blocks = np.maximum(np.arange(len(tokens)), len(prompt))
    none = np.zeros(len(prompt), np.float32)
    return Segment(
        tokens,
        np.concatenate([prompt, targets]).astype(np.int32),
        np.concatenate([none, in_loss]),
        blocks.astype(np.int32),
    )


def example_segment(example: Example, codec: Codec, has_source: bool) -> Segment:
    """Returns an example's segment; its prompt is all that comes before the first answer."""
    ids, flags = example.ids, example.flags
    if flags is None:
        flags = np.full(len(ids), IN_LOSS, np.uint8)
    answers = np.flatnonzero(flags & ANSWER)
    first = int(answers[0]) if len(answers) else 0
    in_loss = (flags & IN_LOSS > 0).astype(np.float32)
    segment = continuation(ids[:first], ids[first:], codec, has_source, in_loss[first:])
    if not has_source:
        segment.weights[:first] = in_loss[:first]
    return segment


def sizes_of(segments: Sequence[Segment]) -> tuple[np.ndarray, np.ndarray]:
    """Returns [segments] tokens in rows, and in the encoder's rows."""
    sources = [0 if segment.source is None else len(segment.source) for segment in segments]
    return np.array([len(segment.tokens) for segment in segments]), np.array(sources)
