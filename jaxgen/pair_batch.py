"""The batch of image-text pairs: what passes from the data room to models that compare the two."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp

RowArray = Annotated[Any, ("batch",)]
"""An array with one entry, of any shape, for each pair; see `batch.TokenArray`."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Captions:
    """Captions by one codec, and beside each an empty one.

    Attributes:
      tokens: [batch, length] int32, from the begin token, if there is one, to the end token, then
        padding.
      lengths: [batch] int32, the tokens of the caption.
      empty_tokens: likewise of an empty caption.
      empty_lengths: likewise.
    """

    tokens: RowArray
    lengths: RowArray
    empty_tokens: RowArray
    empty_lengths: RowArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PairBatch:
    """Images and their captions, one caption an image.

    Attributes:
      images: [batch, height, width, channels] uint8, or float32 where its pixels are normalised.
      tokens: [batch, length] int32, the caption from its begin token to its end token, then
        padding.
      lengths: [batch] int32, the tokens of the caption.
      states: [batch, length, width], the caption as a frozen encoder reads it, where that was done
        before (`jaxgen prepare --captions`); else None.
      empty_states: [batch, places, width], likewise the empty caption's, up to its last place that
        is attended to.
    """

    images: RowArray
    tokens: RowArray
    lengths: RowArray
    states: RowArray = None
    empty_states: RowArray = None
    second: Captions | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(batch, length)."""
        return self.tokens.shape


def pair_batch_spec(
    batch_size: int,
    length: int,
    image_shape: tuple[int, int, int],
    source_length: int | None = None,
) -> PairBatch:
    """Returns the shapes of pairs with captions of up to `length` tokens.

    `source_length` is that of captions by a second codec, if there is one.
    """

    def rows(*shape: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch_size, *shape), dtype)

    images, second = rows(*image_shape, dtype=jnp.uint8), None
    if source_length is not None:
        second = Captions(rows(source_length), rows(), rows(source_length), rows())
    return PairBatch(images, rows(length), rows(), second=second)
