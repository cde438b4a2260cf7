"""Next-token prediction: weighted cross-entropy of each position's target, reported per task."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.batch import Batch
from jaxgen.domains import NonNegativeFloat, ProperFraction, check_domains
from jaxgen.objectives.base import Loss, Sum
from jaxgen.objectives.cross_entropy import TokenLosses, cross_entropy
from jaxgen.sharding.rules import einsum


@dataclasses.dataclass(frozen=True)
class NextToken:
    """Cross-entropy of `batch.targets`, weighted by `batch.loss_weights`.

    Which positions count is the data's matter: masked tokens, spans and answers are trained by this
    objective too. The model's own auxiliary losses, such as those of a router, are added.

    Attributes:
      z_loss: weight of log(Z)^2 (PaLM, 2204.02311, 5).
      label_smoothing: share of a target's probability that the loss spreads over the vocabulary
        (1512.00567, 7); the reported loss and accuracy do without both.
    """

    z_loss: NonNegativeFloat = 0.0
    label_smoothing: ProperFraction = 0.0

    def __post_init__(self):
        check_domains(self, "next_token_loss")

    def __call__(self, model: Any, batch: Batch, key: jax.Array | None = None) -> Loss:
        """Returns the loss of a language model such as `models.transformer.Transformer`."""
        return self.of_output(model, batch, model(batch, key=key))

    def of_output(self, model: Any, batch: Batch, output: Any) -> Loss:
        """Returns the loss of what a model gave for a batch."""
        token_sum, token_losses = cross_entropy(
            output.hidden,
            model.unembedding_table(output.hidden.dtype),
            batch.targets,
            batch.loss_weights,
            bias=model.unembedding_bias(),
            rules=model.layout.rules,
            z_loss=self.z_loss,
            label_smoothing=self.label_smoothing,
            soft_cap=model.config.logit_soft_cap,
            vocab_size=model.config.vocab_size,
        )
        weight = jnp.sum(batch.loss_weights)
        metrics = _by_task(batch, token_losses)
        if output.auxiliary is None:
            return Loss(token_sum, weight, metrics)
        return Loss(
            token_sum + weight * output.auxiliary.loss,
            weight,
            metrics | _auxiliary(output.auxiliary, weight, batch.task_names),
        )


def _auxiliary(auxiliary: Any, weight: jax.Array, task_names: tuple[str, ...]) -> dict[str, Sum]:
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


def _by_task(batch: Batch, token_losses: TokenLosses) -> dict[str, Sum]:
    """Loss, accuracy and share of the tokens of every task."""
    columns = jnp.stack(
        [
            batch.loss_weights,
            batch.loss_weights * token_losses.negative_log_likelihood,
            batch.loss_weights * token_losses.correct,
            (batch.segment_ids > 0).astype(jnp.float32),
        ],
        axis=-1,
    )
    names = batch.task_names
    if names:
        is_task = (batch.task_ids[..., None] == jnp.arange(len(names))).astype(jnp.float32)
        sums = einsum("btk,btc->kc", is_task, columns, out=jax.P())
        weights, losses, correct, tokens = (sums[:, column] for column in range(4))
    else:
        weights, losses, correct, tokens = einsum("btc->c", columns, out=jax.P())
    return {
        "loss": Sum(losses, weights, names),
        "accuracy": Sum(correct, weights, names),
        "token_share": Sum(tokens, jnp.sum(tokens), names),
    }
