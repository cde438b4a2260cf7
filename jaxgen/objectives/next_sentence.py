"""BERT's objective: masked tokens, and whether the second of two spans follows the first."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.batch import Batch
from jaxgen.errors import ConfigError
from jaxgen.models.base import language_model
from jaxgen.objectives.base import Loss, Sum
from jaxgen.objectives.next_token import NextToken


@dataclasses.dataclass(frozen=True)
class NextSentence:
    """The mean over masked tokens plus the mean over pairs of spans (1810.04805, A.2).

    `Batch.pair_labels` says where pairs begin and of which kind they are, as `sentence_pairs` makes
    them. Where gradients are accumulated, the second mean is taken over each microbatch.

    Attributes:
      tokens: how masked tokens are scored.
    """

    tokens: NextToken = NextToken()

    def __call__(self, model: Any, batch: Batch, key: jax.Array | None = None) -> Loss:
        """Returns the loss of a model with a next-sentence head."""
        model = language_model(model)
        if not model.config.next_sentence or batch.pair_labels is None:
            raise ConfigError(
                "next_sentence_loss needs a model with its head (model.next_sentence=True) and "
                "tasks that make pairs (text.denoising = @sentence_pairs()); for masked tokens "
                "alone use next_token_loss."
            )
        output = model(batch, key=key)
        loss = self.tokens.of_output(model, batch, output)
        logits = model.pair_logits(output)
        is_pair = (batch.pair_labels > 0).astype(jnp.float32)
        is_class = batch.pair_labels[..., None] - 1 == jnp.arange(2)
        log_probability = jnp.sum(jnp.where(is_class, jax.nn.log_softmax(logits), 0.0), axis=-1)
        correct = jnp.sum(jnp.where(is_class, logits, 0.0), axis=-1) >= jnp.max(logits, axis=-1)
        total, right = -jnp.sum(is_pair * log_probability), jnp.sum(is_pair * correct)
        pairs = jnp.sum(is_pair)
        return Loss(
            loss.total + loss.weight * total / jnp.maximum(pairs, 1.0),
            loss.weight,
            loss.metrics
            | {
                "next_sentence_loss": Sum(total, pairs),
                "next_sentence_accuracy": Sum(right, pairs),
            },
        )
