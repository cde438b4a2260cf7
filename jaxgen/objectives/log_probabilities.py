"""Log-probabilities of tokens with their gradient, a few positions' logits at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.group_batch import GroupBatch, parted
from jaxgen.models.base import language_model
from jaxgen.objectives.positions import map_positions
from jaxgen.ops.filtering import Filter, filter_logits
from jaxgen.sharding.rules import Rules, reshard


class TokenFigures(NamedTuple):
    """The figures of each target, float32, [rows, length].

    Attributes:
      log_probability: of the target, in nats.
      entropy: of the distribution that it is of, in nats.
    """

    log_probability: Any
    entropy: Any


def token_log_probabilities(
    model: Any, targets: jax.Array, output: Any, drawn_by: Filter | None = None
) -> TokenFigures:
    """Returns the log-probability of each target, differentiable in the model and its output.

    The logits of some positions are made at a time, and made again for the gradient.

    Args:
      model: a language model, or one that has one.
      targets: [rows, length] int32.
      output: what the language model gave, whose hidden states are [rows, length, embed].
      drawn_by: takes the log-probabilities of what is drawn with a temperature, top-k and top-p: of
        the tokens that stay, and of the target, which stays in any case (a token that was drawn
        may since have left them). None: of the model's own distribution.
    """
    model = language_model(model)
    rules = model.layout.rules
    head = model.with_layout(model.layout.with_whole_length())

    def of_chunk(hidden: jax.Array, targets: jax.Array) -> TokenFigures:
        return _figures(head.logits(hidden), targets, drawn_by, rules)

    return map_positions(of_chunk, (output.hidden, targets), rules)


def group_log_probabilities(
    model: Any, batch: GroupBatch, key: jax.Array | None = None
) -> jax.Array:
    """Returns the log-probability of every target of groups, [batch, group, length] float32.

    Args:
      model: a language model, or one that has one.
      batch: of completions.
      key: of a training pass.
    """
    rows = batch.rows()
    output = language_model(model)(rows, key=key)
    found = token_log_probabilities(model, rows.targets, output, batch.drawn_by)
    return parted(found.log_probability, batch.shape[1])


def _figures(
    logits: jax.Array, targets: jax.Array, drawn_by: Filter | None, rules: Rules
) -> TokenFigures:
    if drawn_by is not None and not drawn_by.keeps_all:
        # What stays is a matter of the whole vocabulary.
        logits = reshard(logits, rules.activation("batch", None, None))
    spec = rules.activation("vocab") if _is_split(logits) else rules.activation(None)
    is_target = targets[..., None] == reshard(jnp.arange(logits.shape[-1]), spec)
    if drawn_by is not None:
        kept = filter_logits(logits, drawn_by)
        logits = jnp.where(is_target, logits / drawn_by.temperature, kept)
    log_normaliser = jax.nn.logsumexp(logits, axis=-1)
    target_logit = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
    is_there = jnp.isfinite(logits)
    probability = jnp.exp(logits - log_normaliser[..., None])
    mean_logit = jnp.sum(
        jnp.where(is_there, probability * jnp.where(is_there, logits, 0.0), 0.0), -1
    )
    return TokenFigures(target_logit - log_normaliser, log_normaliser - mean_logit)


def _is_split(logits: jax.Array) -> bool:
    """Returns whether the vocabulary is split over the mesh."""
    sharding = jax.typeof(logits).sharding
    return not sharding.mesh.empty and len(sharding.spec) == 3 and sharding.spec[2] is not None
