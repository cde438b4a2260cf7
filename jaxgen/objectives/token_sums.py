"""Sums over the tokens of a batch, by task, and those of a model's auxiliary losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.batch import Batch
from jaxgen.objectives.base import Loss, Sum
from jaxgen.sharding.rules import einsum


def sums_by_task(batch: Batch, figures: Mapping[str, jax.Array]) -> dict[str, Sum]:
    """Returns each task's means of figures, weighted as the loss is, and its share of the tokens.

    Args:
      batch: the tokens.
      figures: by name, [batch, length] float32.
    """
    columns = jnp.stack(
        [
            batch.loss_weights,
            *(batch.loss_weights * figure for figure in figures.values()),
            (batch.segment_ids > 0).astype(jnp.float32),
        ],
        axis=-1,
    )
    names = batch.task_names
    if names:
        is_task = (batch.task_ids[..., None] == jnp.arange(len(names))).astype(jnp.float32)
        sums = einsum("btk,btc->kc", is_task, columns, out=jax.P())
        weights, *totals, tokens = (sums[:, column] for column in range(columns.shape[-1]))
    else:
        weights, *totals, tokens = einsum("btc->c", columns, out=jax.P())
    found = {name: Sum(one, weights, names) for name, one in zip(figures, totals, strict=True)}
    return found | {"token_share": Sum(tokens, jnp.sum(tokens), names)}


def with_auxiliary(
    loss: Loss,
    auxiliary: Any,
    tokens: jax.Array,
    task_names: tuple[str, ...] = (),
    prefix: str = "",
) -> Loss:
    """Returns a loss with those that a model adds to any objective, and with their figures.

    Every objective that runs a language model goes through this: a router whose load is not among
    the metrics cannot be balanced (`Transformer.after_update`).

    Args:
      loss: the objective's own.
      auxiliary: of the model's output, which counts once for each unit of the loss's weight; None:
        the loss is returned as it is.
      tokens: in the loss, by which the figures of microbatches are weighted.
      task_names: of the batch that the model read.
      prefix: before the figures' names.
    """
    if auxiliary is None:
        return loss
    figures = _auxiliary_sums(auxiliary, tokens, task_names)
    named = {f"{prefix}{name}": figure for name, figure in figures.items()}
    return Loss(loss.total + loss.weight * auxiliary.loss, loss.weight, loss.metrics | named)


def _auxiliary_sums(
    auxiliary: Any, weight: jax.Array, task_names: tuple[str, ...]
) -> dict[str, Sum]:
    """Returns the figures of a model's auxiliary losses, a mean over the tokens in the loss.

    Those of a task are a mean over its tokens.
    """
    means = {
        name: Sum(weight * layers, jnp.broadcast_to(weight, layers.shape))
        for name, layers in auxiliary.means.items()
    }
    figures = means | {name: Sum(weight * x, weight) for name, x in auxiliary.arrays.items()}
    for name, counts in auxiliary.by_task.items():
        for task, of_task in zip(task_names, counts.swapaxes(0, 1), strict=True):
            share = of_task / jnp.maximum(jnp.sum(of_task, axis=-1, keepdims=True), 1.0)
            assignments = jnp.sum(of_task)
            figures[f"{name}/{task}"] = Sum(assignments * share, assignments)
    return figures
