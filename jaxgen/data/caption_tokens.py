"""Captions as rows of tokens: begin token, text, end token, padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import begin_ids
from jaxgen.errors import ConfigError, DataError
from jaxgen.pair_batch import Captions


def caption_tokens(
    codec: Codec, begin: Sequence[int], texts: Sequence[str], length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the tokens of captions, [texts, length] int32, and how many they are, [texts].

    Args:
      codec: of the captions.
      begin: ids before each.
      texts: the captions, which are cut to the length, the end token kept.
      length: of a row.
    """
    most = length - len(begin) - 1
    rows = np.full((len(texts), length), codec.pad_id, np.int32)
    lengths = np.zeros(len(texts), np.int32)
    for row, ids in enumerate(codec.encode_batch(list(texts))):
        caption = np.concatenate([begin, ids[:most], [codec.end_id]])
        rows[row, : len(caption)], lengths[row] = caption, len(caption)
    return rows, lengths


def second_captions(codec: Codec, texts: Sequence[str], length: int) -> Captions:
    """Returns captions by a second codec, which begin as its texts do, and empty ones."""
    tokens, lengths = caption_tokens(codec, begin_ids(codec), [*texts, ""], length)
    last = np.full(len(texts), len(texts))  # The row of the empty caption, for each of them.
    return Captions(tokens[:-1], lengths[:-1], tokens[last], lengths[last])


def check_second(codec: Codec, second: Codec | None) -> None:
    """Raises ConfigError if a run would keep the files of both codecs under one name."""
    files = [set(getattr(one, "KEPT_FILES", {}).values()) for one in (codec, second)]
    if same := sorted(files[0] & files[1]):
        raise ConfigError(
            f"image_text_pairs.second_codec is a {type(second).__name__} as the task's codec is, "
            f"and a run keeps one {same[0]}: bind image_text_pairs.second_codec = "
            "@second_tokenizer()."
        )


def check_second_length(second: Codec | None, source_length: int | None) -> None:
    """Raises DataError unless captions by a second codec have rows with room for one."""
    if second is None and source_length is not None:
        raise DataError(
            f"train.source_length={source_length} is of captions by a second codec, and the pairs "
            "have none: set image_text_pairs.second_codec, or leave it out."
        )
    if second is not None and (source_length or 0) < len(begin_ids(second)) + 2:
        raise DataError(
            f"train.source_length={source_length} is the tokens of a caption by "
            "image_text_pairs.second_codec, and has no room for one: set it, such as to 77."
        )
