"""The log-probability and the likeliest token at every position of texts that are there."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.batch import Batch
from jaxgen.codecs.media import ArrayForm
from jaxgen.data.loading import as_batch, stack
from jaxgen.data.packing import MediaSlots, RowShape, check_longest, pack_row
from jaxgen.data.segments import Segment, sizes_of
from jaxgen.distributed import fetch
from jaxgen.errors import ConfigError
from jaxgen.generation.sampling import log_probability
from jaxgen.models.transformer import Transformer
from jaxgen.sharding.rules import reshard
from jaxgen.training.loading import put_batch

WIDTHS = 32
"""Rows are as wide as a multiple of this, so that few programs are compiled."""


class Scored(NamedTuple):
    """The scored positions of a segment.

    Attributes:
      log_probabilities: [scored] float64, in nats.
      predicted: [scored] int32, the likeliest token after the targets before it.
      targets: [scored] int32.
    """

    log_probabilities: np.ndarray
    predicted: np.ndarray
    targets: np.ndarray

    @property
    def total(self) -> float:
        """Returns the log-probability of all scored tokens together."""
        return float(self.log_probabilities.sum())

    @property
    def is_greedy(self) -> bool:
        """Returns whether greedy decoding writes it: every token is the likeliest one."""
        return bool((self.predicted == self.targets).all())


@dataclasses.dataclass(frozen=True)
class Scorer:
    """Scores segments with a model, each in a row of its own; used under `jax.set_mesh`.

    Attributes:
      model: the parameters.
      batch_size: rows at a time.
      length: the most tokens of a row.
      source_length: the most tokens that an encoder reads; None in a model without one.
    """

    model: Transformer
    batch_size: int
    length: int
    source_length: int | None = None

    def __post_init__(self):
        config: Any = getattr(self.model, "config", None)  # A model of one's own may have none.
        has_table = getattr(config, "embedding_positions", None) == "learned"
        if has_table and self.length > (config.max_length or 0):
            raise ConfigError(
                f"evaluation.length={self.length} exceeds the model's learned positions, "
                f"model.max_length={config.max_length}."
            )

    @property
    def has_source(self) -> bool:
        """Returns whether an encoder reads the prompts."""
        return self.source_length is not None

    def score(self, name: str, segments: Sequence[Segment], pad_id: int) -> list[Scored]:
        """Returns the scores of each segment's positions whose weight is above 0.

        Args:
          name: of the task, for messages.
          segments: rows are no wider than the longest of them needs.
          pad_id: fills rows.

        Raises:
          DataError: if a segment is longer than a row may be.
        """
        if not segments:
            return []
        sizes = sizes_of(segments)
        check_longest(name, sizes, RowShape(self.length, self.source_length))
        width = min(self.length, -(-int(sizes[0].max()) // WIDTHS) * WIDTHS)
        has_media = any(segment.modalities is not None for segment in segments)
        layout = RowShape(
            width, self.source_length, has_blocks=True, has_media=has_media, media=_slots(segments)
        )
        scored = []
        for first in range(0, len(segments), self.batch_size):
            chosen = [[segment] for segment in segments[first : first + self.batch_size]]
            parts = chosen + [[]] * (self.batch_size - len(chosen))
            arrays = stack([pack_row(part, layout, pad_id) for part in parts])
            batch = as_batch(arrays | {"task_ids": np.zeros_like(arrays["tokens"])})
            placed = put_batch(batch, jax.sharding.get_mesh(), self.model.layout.rules)
            found, predicted = fetch(_score_batch(self.model, placed))
            for index in range(len(chosen)):
                in_loss = batch.loss_weights[index] > 0
                scored.append(
                    Scored(
                        found[index][in_loss].astype(np.float64),
                        predicted[index][in_loss],
                        batch.targets[index][in_loss],
                    )
                )
        return scored


def _slots(segments: Sequence[Segment]) -> tuple[MediaSlots, ...]:
    """Returns room for the media of the segment that has most of them."""
    most: dict[str, int] = {}
    forms: dict[str, ArrayForm] = {}
    for segment in segments:
        for modality, count in Counter(one.modality for one in segment.media).items():
            most[modality] = max(count, most.get(modality, 0))
        forms |= {m.modality: ArrayForm(m.values.shape, str(m.values.dtype)) for m in segment.media}
    return tuple(MediaSlots(name, most[name], forms[name]) for name in sorted(forms))


@jax.jit
def _score_batch(model: Transformer, batch: Batch) -> tuple[Any, Any]:
    """Returns log-probabilities of the targets and the likeliest tokens, both [batch, length]."""
    whole = model.layout.rules.activation("batch", None)
    head = model.with_layout(model.layout.with_whole_length())

    def score_position(position: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden, target = position
        logits = reshard(head.logits(hidden[:, None])[:, 0], whole)
        return log_probability(logits, target), jnp.argmax(logits, axis=-1)

    # A position at a time, as the logits of all would not fit.
    hidden = reshard(model(batch).hidden, model.layout.rules.activation("batch", None, None))
    positions = hidden.swapaxes(0, 1), reshard(batch.targets, whole).swapaxes(0, 1)
    found, predicted = jax.lax.map(score_position, positions)
    return found.swapaxes(0, 1), predicted.swapaxes(0, 1)
