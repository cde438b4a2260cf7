"""Next-token prediction: a model and a batch to a loss, with every task's own share of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.batch import Batch
from jaxgen.models.transformer import Transformer
from jaxgen.objectives.cross_entropy import cross_entropy
from jaxgen.sharding.rules import einsum


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loss:
    """A sum to differentiate and the sums that are reported; all add up over micro-batches.

    Attributes:
      total: scalar float32, what is differentiated: the token losses plus `weight` times the
        auxiliary losses, so that total / weight is the loss of a batch.
      weight: scalar float32, the sum of the loss weights.
      per_task: [tasks, 4] float32: sums of loss weight, weighted negative log-likelihood, weighted
        correct predictions, and tokens that are not padding.
      router: weight times the router's figures (see `models.moe.RouterStatistics`), or None.
    """

    total: Any
    weight: Any
    per_task: Any
    router: Any


def next_token(
    model: Transformer, batch: Batch, num_tasks: int, key: jax.Array | None = None
) -> Loss:
    """Cross-entropy of each position's target, z-loss and router losses included.

    `key` is of a training pass; see `Transformer`.
    """
    config = model.config
    output = model(batch, key=key)
    token_sum, token_losses = cross_entropy(
        output.hidden,
        model.unembedding_table(output.hidden.dtype),
        batch.targets,
        batch.loss_weights,
        bias=model.unembedding_bias(),
        rules=model.layout.rules,
        z_loss=config.z_loss,
        label_smoothing=config.label_smoothing,
        soft_cap=config.logit_soft_cap,
    )
    weight = jnp.sum(batch.loss_weights)
    total, router = token_sum, None
    if config.moe is not None and output.router is not None:
        auxiliary = config.moe.load_balance_weight * jnp.sum(output.router.load_balance_loss)
        auxiliary += config.moe.router_z_weight * jnp.sum(output.router.z_loss)
        total = token_sum + weight * auxiliary
        router = jax.tree.map(lambda x: weight * x, output.router)
    columns = jnp.stack(
        [
            batch.loss_weights,
            batch.loss_weights * token_losses.negative_log_likelihood,
            batch.loss_weights * token_losses.correct,
            (batch.segment_ids > 0).astype(jnp.float32),
        ],
        axis=-1,
    )
    is_task = (batch.task_ids[..., None] == jnp.arange(num_tasks)).astype(jnp.float32)
    per_task = einsum("btk,btc->kc", is_task, columns, out=jax.P())
    return Loss(total, weight, per_task, router)
