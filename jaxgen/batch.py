"""The one batch type: what passes from the data room to the models."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

Array = jax.Array | np.ndarray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EncoderInput:
    """What the encoder of an encoder-decoder reads; every field is [batch, source length] int32.

    Attributes:
      tokens: the source.
      positions: counted from 0 in each segment.
      segment_ids: 0 is padding; a segment of targets attends to the source of its own id.
    """

    tokens: Any
    positions: Any
    segment_ids: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Packed token rows; every field is [batch, length], or None where it may be.

    Attributes:
      tokens: int32, what the model reads.
      targets: int32, what it must predict at each position (already shifted).
      loss_weights: float32, 0 where nothing is to be learnt.
      positions: int32, counted from 0 in each segment.
      segment_ids: int32, 0 is padding; positions attend only inside their segment.
      task_ids: int32, the index of the mixture's task that each token belongs to.
      block_ids: int32, growing along a segment; tokens of one block see each other in layers that
        are block-causal. None: each token is its own block.
      token_types: int32, of models that tell kinds of tokens apart (BERT's two sentences); None: 0.
      encoder: the source of an encoder-decoder.
    """

    tokens: Any
    targets: Any
    loss_weights: Any
    positions: Any
    segment_ids: Any
    task_ids: Any
    block_ids: Any = None
    token_types: Any = None
    encoder: EncoderInput | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(batch, length)."""
        return self.tokens.shape
