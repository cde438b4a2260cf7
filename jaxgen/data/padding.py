"""Texts of one length before what they ask for: each position has a padding token of its own.

DALL-E (2102.12092, 2.2) fills its 256 positions of text with them, so that a picture always begins
at the same one. Their embeddings are rows of the token table like any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.data.parts import ANSWER, IN_LOSS, Example
from jaxgen.errors import ConfigError, DataError

TEXT_PAD = "<|text_pad_{}|>"


def pad_text(ids: np.ndarray, length: int, codec: Codec) -> np.ndarray:
    """Returns the ids [length] of a text, filled up with the padding token of each position.

    Raises:
      DataError: if the text is longer, or the codec lacks such tokens.
    """
    if len(ids) > length:
        raise DataError(
            f"a prompt has {len(ids)} tokens, and prompt_answer.padded_prompt={length}; give it a "
            "larger number, or leave such records out."
        )
    pads = [codec.special_id(TEXT_PAD.format(place)) for place in range(len(ids), length)]
    return np.concatenate([ids, np.array(pads, np.int32)]).astype(np.int32)


def pad_prompt(example: Example, length: int, codec: Codec) -> Example:
    """Returns an example whose prompt, all before its first answer, has so many tokens.

    The padding is in the loss if the prompt is.

    Raises:
      DataError: as `pad_text` does, or of an example without an answer.
    """
    answers = np.flatnonzero((0 if example.flags is None else example.flags) & ANSWER)
    if example.flags is None or not len(answers):
        raise DataError("prompt_answer.padded_prompt needs an answer in each record.")
    first = int(answers[0])
    prompt = pad_text(example.ids[:first], length, codec)
    in_loss = example.flags[0] & IN_LOSS if first else 0
    flags = np.concatenate([example.flags[:first], np.full(length - first, in_loss, np.uint8)])
    return dataclasses.replace(
        example,
        ids=np.concatenate([prompt, example.ids[first:]]),
        flags=np.concatenate([flags, example.flags[first:]]),
    )


def padded_length(tasks: Iterable[Any]) -> int:
    """Returns what the tasks of a mixture that pad their prompts pad them to; 0 if none does.

    Raises:
      ConfigError: if they differ.
    """
    lengths = {getattr(task.features, "padded_prompt", 0) for task in tasks} - {0}
    if len(lengths) > 1:
        raise ConfigError(
            f"tasks have prompt_answer.padded_prompt={sorted(lengths)}, and a prompt that is given "
            "says not of which it is; train on one of them."
        )
    return lengths.pop() if lengths else 0
