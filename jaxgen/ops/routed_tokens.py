"""What routers are told of tokens, beside the stream itself."""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import Any

import jax

from jaxgen.batch import Batch
from jaxgen.ops.moe_config import MoEConfig

_LOGGER = logging.getLogger(__name__)

MOST_LOADS = 8192
"""Loads of experts by task and layer that a row of metrics has room for."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoutedTokens:
    """Tokens as routers know them.

    Attributes:
      segment_ids: [batch, length] int32; 0 is padding, which no expert takes.
      task_ids: [batch, length] int32, of each token; None where loads are not counted by task.
      num_tasks: static.
    """

    segment_ids: Any
    task_ids: Any = None
    num_tasks: int = dataclasses.field(default=0, metadata={"static": True})


def routed_tokens(batch: Batch, moe: MoEConfig | None, num_layers: int) -> RoutedTokens:
    """Returns the tokens of a batch, with their tasks where it has several and rows have room."""
    tasks = len(batch.task_names)
    if moe is None or tasks < 2:
        return RoutedTokens(batch.segment_ids)
    layers = sum(moe.is_sparse(layer) for layer in range(num_layers))
    if layers * moe.num_experts * tasks > MOST_LOADS:
        _log(layers, moe.num_experts, tasks)
        return RoutedTokens(batch.segment_ids)
    return RoutedTokens(batch.segment_ids, batch.task_ids, tasks)


@functools.cache
def _log(layers: int, experts: int, tasks: int) -> None:
    _LOGGER.info(
        "loads of experts are not reported by task: %d sparse layers x %d experts x %d tasks are "
        "more than the %d numbers that a row has room for.",
        layers,
        experts,
        tasks,
        MOST_LOADS,
    )
