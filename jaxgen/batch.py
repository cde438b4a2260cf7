"""The one batch type: what passes from the data room to the models."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp

TokenArray = Annotated[Any, ("batch", "length")]
"""An array with one entry for each token of each row.

The annotation declares the logical axes of a batch's field: `training.loading.put_batch` lays the
array out over the mesh by them. A field without any is [batch, ...].
"""


PlaceArray = Annotated[Any, ("batch", "length", None)]
"""[batch, length, 3], a time, a row and a column for each token."""

MediaArrays = Annotated[Any, ("batch",)]
"""A dictionary of arrays [batch, media of a row, ...] by modality."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EncoderInput:
    """The source that the encoder of an encoder-decoder reads; int32.

    Attributes:
      tokens: the source.
      positions: counted from 0 in each segment.
      segment_ids: 0 is padding; a segment of targets attends to the source of its own id.
    """

    tokens: TokenArray
    positions: TokenArray
    segment_ids: TokenArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Packed token rows; every array is [batch, length], but for `places` and `media`.

    Attributes:
      tokens: int32, the model's input.
      targets: int32, what the model must predict at each position (already shifted).
      loss_weights: float32, 0 where the loss does not count.
      positions: int32, counted from 0 in each segment.
      segment_ids: int32, 0 is padding; positions attend only inside their segment.
      task_ids: int32, the index in `task_names` of the task that each token belongs to.
      block_ids: int32, growing along a segment; tokens of one block see each other in layers that
        are block-causal. None: each token is its own block.
      token_types: int32, of models that tell kinds of tokens apart (BERT's two sentences); None: 0.
      pair_labels: int32, at the first token of a pair of spans 1 if the second follows the first
        and 2 if it does not, 0 elsewhere; None: there are no pairs.
      modalities: int32, the index in `modality_names` of what each token is of; None: all is text.
      places: int32, the time, row and column of a token in its picture, sound or clip, 0 for text.
      media: what a model reads of media beside their tokens, in the order of a row and then 0:
        pixels [batch, media, height, width, channels] uint8 of "image", frames [batch, media,
        frames, bands] float32 of "audio"; None: there are none.
      encoder: the source of an encoder-decoder, or None.
      task_names: static; () leaves losses unreported by task.
      modality_names: static, "text" first; () leaves losses unreported by modality.
    """

    tokens: TokenArray
    targets: TokenArray
    loss_weights: TokenArray
    positions: TokenArray
    segment_ids: TokenArray
    task_ids: TokenArray
    block_ids: TokenArray = None
    token_types: TokenArray = None
    pair_labels: TokenArray = None
    modalities: TokenArray = None
    places: PlaceArray = None
    media: MediaArrays = None
    encoder: EncoderInput | None = None
    task_names: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})
    modality_names: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})

    @property
    def shape(self) -> tuple[int, int]:
        """(batch, length)."""
        return self.tokens.shape


def token_batch_spec(batch_size: int, length: int, source_length: int | None = None) -> Batch:
    """Returns the shapes of packed token rows, with a source where its length is given."""

    def rows(width: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch_size, width), dtype)

    tokens = rows(length)
    source = None if source_length is None else EncoderInput(*[rows(source_length)] * 3)
    return Batch(tokens, tokens, rows(length, jnp.float32), *[tokens] * 3, encoder=source)
