"""The batches of a run's steps: read ahead, or made of the state before each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxgen.data.base import Data, HostRows
from jaxgen.training.divergence import Skip, data_step, read_batches
from jaxgen.training.state import TrainState


def samples_from_state(data: Any) -> bool:
    """Returns whether data makes its batches of the training state; see `data.base.Data`."""
    return getattr(data, "samples_from_state", False)


def batch_reader(
    data: Data, first: int, skips: Sequence[Skip], rows: HostRows, num_workers: int
) -> Callable[[int, TrainState], Any]:
    """Returns a function of a step, counted from 0, and the state before it to the step's batch.

    It is called for `first`, the step after it and so on.

    Args:
      data: in its order.
      first: the first step.
      skips: what is left out.
      rows: those that this process needs.
      num_workers: processes that read ahead; none do where batches are made of the state.
    """
    if samples_from_state(data):
        return lambda step, state: data.batch(data_step(step, skips), state, rows)
    batches = read_batches(data, first, skips, rows=rows, num_workers=num_workers)
    return lambda step, state: next(batches)
