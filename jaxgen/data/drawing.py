"""Rows in which a model is to draw a picture: a prompt, and the places of the picture's patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxgen.batch import Batch
from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import begin_ids
from jaxgen.codecs.media import Media, media_ranges
from jaxgen.data.parts import Part, encode_parts
from jaxgen.errors import DataError


def rows_to_draw(
    prompts: Sequence[str | None], codec: Codec, length: int, width: int | None = None
) -> Batch:
    """Returns rows of one segment each, on the host, that end with a picture's placeholders.

    Args:
      prompts: texts before the picture; None: there is none.
      codec: one that draws pictures (`image_vectors.drawn`).
      length: the most tokens of a row.
      width: that rows are filled up to; None: the longest's.

    Raises:
      DataError: if the codec draws none, or a prompt leaves no room.
    """
    ranges = [one for one in media_ranges(codec) if one.modality == "image"]
    draws = getattr(codec, "draws", None)
    if not ranges or ranges[0].form is None or draws is None or not draws("image"):
        raise DataError(
            "the run's codec draws no pictures as patches; give it @image_vectors() with "
            "image_vectors.drawn = True."
        )
    one = ranges[0]
    assert one.form is not None
    picture = Media("image", np.zeros(one.form.shape, np.uint8))
    rows = []
    for prompt in prompts:
        parts = [] if prompt is None else [Part(prompt, in_loss=False)]
        ids = encode_parts([*parts, Part("", is_answer=True, media=picture)], codec).ids
        ids = np.concatenate([begin_ids(codec), ids]).astype(np.int32)
        last = int(np.flatnonzero(ids == one.first_id)[-1])
        rows.append(ids[: last + 1])
    longest = max(len(row) for row in rows)
    if longest > length:
        raise DataError(
            f"a prompt and its picture are {longest} tokens, and rows have {length}; shorten it, "
            "or raise train.length."
        )
    width = longest if width is None else width
    tokens = np.full((len(rows), width), codec.pad_id, np.int32)
    segments = np.zeros_like(tokens)
    for number, row in enumerate(rows):
        tokens[number, : len(row)], segments[number, : len(row)] = row, 1
    positions = np.where(segments > 0, np.arange(width, dtype=np.int32), 0)
    nothing = np.zeros_like(tokens)
    return Batch(tokens, tokens, nothing.astype(np.float32), positions, segments, nothing)
