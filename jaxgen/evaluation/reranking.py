"""Generated pictures beside texts, by a contrastive model (DALL-E, 2102.12092, 2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.data.image_files import resize_image
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.errors import ConfigError
from jaxgen.evaluation.pairs import encode_images, encode_texts


def encode_both(
    model: Any, pairs: Any, length: int, pictures: Sequence[np.ndarray], texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the vectors of pictures and of texts, each of length 1, [some, embed] float32.

    Args:
      model: a contrastive pair of encoders; call under `jax.set_mesh`.
      pairs: the data that it was trained on, which say what it reads.
      length: tokens of its captions.
      pictures: uint8 [height, width, 3] each; resized to what the model reads.
      texts: in their own number.

    Raises:
      ConfigError: as `check_compares`.
    """
    check_compares(model, pairs)
    size = pairs.image_size
    images = [resize_image(picture, (size, size)) for picture in pictures]
    pixels = pairs.pixels([{pairs.image: image} for image in images])
    tokens, lengths = pairs.tokens(list(texts), length)
    seen = encode_images(model, pixels, len(pictures))
    return seen, encode_texts(model, tokens, lengths, len(texts))


def check_compares(model: Any, pairs: Any) -> None:
    """Raises ConfigError for a run that does not compare pictures with texts."""
    for found, is_one in ((pairs, isinstance(pairs, ImageTextPairs)),
                          (model, hasattr(model, "encode_images"))):  # fmt: skip
        if not is_one:
            raise ConfigError(
                "a run that compares pictures with texts is one of a contrastive pair "
                f"(runs/contrastive.gin), not of {type(found).__name__}."
            )


def similarities(
    model: Any, pairs: Any, length: int, pictures: Sequence[np.ndarray], texts: Sequence[str]
) -> np.ndarray:
    """Returns how near each picture is to its text, the cosine of their vectors [pictures] float32.

    There is a text for each picture; see `encode_both`.
    """
    seen, read = encode_both(model, pairs, length, pictures, texts)
    return np.sum(seen * read, axis=-1)


def best_of(scores: np.ndarray, groups: int, count: int) -> np.ndarray:
    """Returns the numbers of the best candidates of each group, the best first.

    Args:
      scores: [groups * candidates].
      groups: how many there are; candidates of one are next to one another.
      count: how many of each are chosen.

    Returns:
      [groups * count] int, numbers among all candidates.
    """
    by_group = scores.reshape(groups, -1)
    order = np.argsort(-by_group, axis=1, kind="stable")[:, :count]
    return (order + np.arange(groups)[:, None] * by_group.shape[1]).reshape(-1)
