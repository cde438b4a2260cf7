"""Next-token prediction: weighted cross-entropy of each position's target, reported per task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.batch import Batch
from jaxgen.domains import NonNegativeFloat, ProperFraction, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.base import language_model
from jaxgen.objectives.base import Loss, Sum
from jaxgen.objectives.cross_entropy import TokenLosses, cross_entropy
from jaxgen.objectives.token_sums import sums_by_task, with_auxiliary
from jaxgen.sharding.rules import Rules, einsum, reshard


@dataclasses.dataclass(frozen=True)
class NextToken:
    """Cross-entropy of `batch.targets`, weighted by `batch.loss_weights`.

    Which positions count is the data's matter: masked tokens, spans and answers are trained by this
    objective too. The model's own auxiliary losses, such as those of a router, are added.

    Attributes:
      z_loss: weight of log(Z)^2 (PaLM, 2204.02311, 5).
      label_smoothing: share of a target's probability that the loss spreads over the vocabulary
        (1512.00567, 7); the reported loss and accuracy do without both.
      modality_weights: factors on the loss weights of what is text, image, audio or video, by the
        token to predict; the rest have 1 (DALL-E, 2102.12092, 2.2, weighs its text 1 to 7). The
        reported losses are means without them.
      in_place: whether targets are of their own places, as those of masked tokens are, not of the
        next; what they are of, in weights and reports by modality, follows from it.
    """

    z_loss: NonNegativeFloat = 0.0
    label_smoothing: ProperFraction = 0.0
    modality_weights: Mapping[str, NonNegativeFloat] | None = None
    in_place: bool = False

    def __post_init__(self):
        check_domains(self, "next_token_loss")

    def __call__(self, model: Any, batch: Batch, key: jax.Array | None = None) -> Loss:
        """Returns the loss of a language model such as `models.transformer.Transformer`."""
        model = language_model(model)
        return self.of_output(model, batch, model(batch, key=key))

    def of_output(self, model: Any, batch: Batch, output: Any) -> Loss:
        """Returns the loss of what a model gave for a batch."""
        model = language_model(model)
        weights = batch.loss_weights
        if self.modality_weights is not None:
            weights = weights * self._factors(self.modality_weights, batch, model.layout.rules)
        token_sum, token_losses = cross_entropy(
            output.hidden,
            model.unembedding_table(output.hidden.dtype),
            batch.targets,
            weights,
            bias=model.unembedding_bias(),
            rules=model.layout.rules,
            z_loss=self.z_loss,
            label_smoothing=self.label_smoothing,
            soft_cap=model.config.logit_soft_cap,
            vocab_size=model.config.vocab_size,
        )
        weight = jnp.sum(weights)
        figures = {
            "loss": token_losses.negative_log_likelihood,
            "accuracy": token_losses.correct,
        }
        metrics = sums_by_task(batch, figures)
        if batch.modality_names:
            of_target = self._target_modalities(batch, model.layout.rules)
            metrics |= _by_modality(batch, token_losses, of_target)
        loss = Loss(token_sum, weight, metrics)
        return with_auxiliary(loss, output.auxiliary, weight, batch.task_names)

    def _target_modalities(self, batch: Batch, rules: Rules) -> jax.Array:
        """Returns what each target is of, [batch, length] int32.

        That is what its own token is of, or the next: a segment begins and ends with text, as every
        medium lies between tokens that begin and end it.
        """
        if self.in_place:
            return jnp.asarray(batch.modalities)
        whole = reshard(jnp.asarray(batch.modalities), rules.activation("batch", None))
        after = jnp.pad(whole[:, 1:], [(0, 0), (0, 1)])
        return reshard(after, rules.activation("batch", "length"))

    def _factors(self, by_name: Mapping[str, float], batch: Batch, rules: Rules) -> jax.Array:
        """Returns the factors on the loss weights, [batch, length]."""
        wrong = sorted(set(by_name) - set(batch.modality_names))
        if wrong:
            raise ConfigError(
                f"next_token_loss.modality_weights names {wrong}, and the data has the modalities "
                f"{batch.modality_names or ('text',)}; name some of these."
            )
        factors = jnp.array([by_name.get(name, 1.0) for name in batch.modality_names], jnp.float32)
        modalities = self._target_modalities(batch, rules)
        is_of = (modalities[..., None] == jnp.arange(len(factors))).astype(jnp.float32)
        return einsum("btm,m->bt", is_of, factors, out=rules.activation("batch", "length"))


def _by_modality(
    batch: Batch, token_losses: TokenLosses, target_modalities: jax.Array
) -> dict[str, Sum]:
    """Loss, and share of the tokens, of every task's modalities, labelled TASK/MODALITY."""
    tasks, modalities = batch.task_names or ("all",), batch.modality_names
    task = (batch.task_ids[..., None] == jnp.arange(len(tasks))).astype(jnp.float32)
    task = task if batch.task_names else jnp.ones_like(task)
    numbers = jnp.arange(len(modalities))
    of_input = (batch.modalities[..., None] == numbers).astype(jnp.float32)
    of_target = (target_modalities[..., None] == numbers).astype(jnp.float32)
    labels = tuple(f"{one}/{other}" for one in tasks for other in modalities)

    def total(values: jax.Array, is_of: jax.Array) -> jax.Array:
        return einsum("bt,btk,btm->km", values, task, is_of, out=jax.P()).reshape(-1)

    is_token = (batch.segment_ids > 0).astype(jnp.float32)
    losses = batch.loss_weights * token_losses.negative_log_likelihood
    return {
        "modality_loss": Sum(
            total(losses, of_target), total(batch.loss_weights, of_target), labels
        ),
        "modality_share": Sum(total(is_token, of_input), jnp.sum(is_token), labels),
    }
