"""What a model gives to texts that are there: log-probability and likeliest token, by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.batch import Batch
from jaxgen.data.loading import as_batch, stack
from jaxgen.data.packing import Layout, check_longest, pack_row
from jaxgen.data.segments import Segment
from jaxgen.models.transformer import Transformer
from jaxgen.objectives.cross_entropy import cross_entropy
from jaxgen.sharding.rules import reshard
from jaxgen.training.loading import put_batch

WIDTHS = 32
"""Rows are as wide as a multiple of this, so that few programs are compiled."""


class Scored(NamedTuple):
    """The positions of a segment that are judged.

    Attributes:
      log_probabilities: [judged] float64, in nats.
      predicted: [judged] int32, the likeliest token after the right ones before it.
      wanted: [judged] int32.
    """

    log_probabilities: np.ndarray
    predicted: np.ndarray
    wanted: np.ndarray

    @property
    def total(self) -> float:
        """The log-probability of all of it."""
        return float(self.log_probabilities.sum())

    @property
    def is_greedy(self) -> bool:
        """Whether greedy decoding would say it: each token is the likeliest after those before."""
        return bool((self.predicted == self.wanted).all())


def score_segments(
    name: str,
    model: Transformer,
    segments: Sequence[Segment],
    pad_id: int,
    batch_size: int,
    layout: Layout,
) -> list[Scored]:
    """What the model gives to the positions of each segment whose weight is above 0.

    Args:
      name: of the task, for messages.
      model: the parameters; call under `jax.set_mesh`.
      segments: each in a row of its own.
      pad_id: fills rows.
      batch_size: rows at a time.
      layout: the longest a row may be; rows are no wider than the longest segment needs.

    Raises:
      DataError: if a segment is longer than the layout allows.
    """
    if not segments:
        return []
    sizes = (np.array([len(s.tokens) for s in segments]),
             np.array([0 if s.source is None else len(s.source) for s in segments]))  # fmt: skip
    check_longest(name, sizes, layout)
    width = min(layout.length, -(-int(sizes[0].max()) // WIDTHS) * WIDTHS)
    layout = Layout(width, layout.source_length, layout.has_blocks)
    scored = []
    for first in range(0, len(segments), batch_size):
        chosen = [[segment] for segment in segments[first : first + batch_size]]
        parts = chosen + [[]] * (batch_size - len(chosen))
        arrays = stack([pack_row(part, layout, pad_id) for part in parts])
        batch = as_batch(arrays | {"task_ids": np.zeros_like(arrays["tokens"])})
        placed = put_batch(batch, jax.sharding.get_mesh(), model.rules)
        losses, predicted = (np.asarray(x) for x in _losses_and_predictions(model, placed))
        for index in range(len(chosen)):
            judged = batch.loss_weights[index] > 0
            scored.append(
                Scored(
                    -losses[index][judged].astype(np.float64),
                    predicted[index][judged],
                    batch.targets[index][judged],
                )
            )
    return scored


@jax.jit
def _losses_and_predictions(model: Transformer, batch: Batch) -> tuple[Any, Any]:
    """Negative log-likelihood [batch, length] and likeliest token [batch, length]."""
    hidden = model(batch).hidden
    losses = cross_entropy(
        hidden,
        model.unembedding_table(hidden.dtype),
        batch.targets,
        batch.loss_weights,
        bias=model.unembedding_bias(),
        rules=model.rules,
        soft_cap=model.config.logit_soft_cap,
    )[1]
    whole = model.rules.activation("batch", None)

    def likeliest(hidden):
        return jnp.argmax(reshard(model.logits(hidden[:, None])[:, 0], whole), axis=-1)

    # A position at a time, as the logits of all would not fit.
    by_position = reshard(hidden, model.rules.activation("batch", None, None)).swapaxes(0, 1)
    predicted = jax.lax.map(likeliest, by_position).swapaxes(0, 1)
    return losses.negative_log_likelihood, predicted
