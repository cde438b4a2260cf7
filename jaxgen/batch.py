"""The one batch type: what passes from the data room to the models."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

Array = jax.Array | np.ndarray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Packed token rows; every field is [batch, length].

    Attributes:
      tokens: int32, what the model reads.
      targets: int32, what it must predict at each position (already shifted).
      loss_weights: float32, 0 where nothing is to be learnt.
      positions: int32, counted from 0 in each segment.
      segment_ids: int32, 0 is padding; positions attend only inside their segment.
      task_ids: int32, the index of the mixture's task that each token belongs to.
    """

    tokens: Any
    targets: Any
    loss_weights: Any
    positions: Any
    segment_ids: Any
    task_ids: Any

    @property
    def shape(self) -> tuple[int, int]:
        """(batch, length)."""
        return self.tokens.shape
