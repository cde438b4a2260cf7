"""Figures of groups of completions: sums over a completion's tokens, and over prompts by task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.errors import ConfigError
from jaxgen.group_batch import GroupBatch
from jaxgen.models.base import language_model
from jaxgen.objectives.base import Loss, Sum
from jaxgen.objectives.token_sums import with_auxiliary
from jaxgen.sharding.rules import Rules, einsum


def rules_of(model: Any) -> Rules:
    """Returns the rules by which a policy's language model is split."""
    return language_model(model).layout.rules


def check_group(batch: GroupBatch, expected: int, objective: str, fix: str) -> None:
    """Raises ConfigError if groups are of another size."""
    if batch.shape[1] != expected:
        raise ConfigError(
            f"{objective} reads groups of {expected}, and the data has groups of {batch.shape[1]}: "
            f"{fix}."
        )


def sums_of_tokens(values: ArrayLike, weights: ArrayLike, rules: Rules) -> jax.Array:
    """Maps [batch, group, length] to weighted sums [batch, group]; without weight all may stand."""
    weights = jnp.asarray(weights)
    kept = jnp.where(weights != 0, jnp.asarray(values), 0.0)
    return einsum("bgt,bgt->bg", kept, weights, out=rules.activation("batch", None))


def at_last_token(values: ArrayLike, batch: GroupBatch, rules: Rules) -> jax.Array:
    """Returns [batch, group], what [batch, group, length] has at the last token of each."""
    places = jnp.arange(batch.shape[2]) == jnp.asarray(batch.lengths)[..., None] - 1
    return sums_of_tokens(values, places.astype(jnp.float32), rules)


def is_there(batch: GroupBatch) -> jax.Array:
    """Returns [batch, group] float32, 1 where there is a completion."""
    return (jnp.asarray(batch.lengths) > 0).astype(jnp.float32)


def loss_of_prompts(
    batch: GroupBatch,
    figures: Mapping[str, tuple[ArrayLike, ArrayLike]],
    auxiliary: Any = None,
) -> Loss:
    """Returns the loss of a batch and its sums by task.

    Args:
      batch: for the tasks of the prompts.
      figures: by name values [batch] and their weights [batch]; that of "loss" is differentiated.
      auxiliary: a model's own losses, such as those of a router, which are added.
    """
    losses, weights = figures["loss"]
    weight = jnp.sum(jnp.asarray(weights))
    total = jnp.sum(jnp.asarray(losses) * weights)
    metrics = {name: _mean_by_task(batch, *figure) for name, figure in figures.items()}
    tokens = jnp.sum(jnp.asarray(batch.completion_weights))
    return with_auxiliary(Loss(total, weight, metrics), auxiliary, tokens, batch.task_names)


def _mean_by_task(batch: GroupBatch, values: ArrayLike, weights: ArrayLike) -> Sum:
    weights = jnp.asarray(weights)
    return by_task(batch, jnp.where(weights != 0, jnp.asarray(values), 0.0) * weights, weights)


def by_task(batch: GroupBatch, weighted: jax.Array, weights: jax.Array) -> Sum:
    """Returns a metric of prompts, [batch] sums and weights, by the tasks' names."""
    names = batch.task_names
    if not names or batch.task_ids is None:
        return Sum(jnp.sum(weighted), jnp.sum(weights))
    is_task = jnp.asarray(batch.task_ids)[:, None] == jnp.arange(len(names))
    columns = jnp.stack([weighted, weights], axis=-1)
    sums = einsum("bk,bc->kc", is_task.astype(jnp.float32), columns, out=jax.P())
    return Sum(sums[:, 0], sums[:, 1], names)
