"""Held-out losses of every task, in nats a token and bits a byte, during training and after it."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import num_bytes
from jaxgen.data.base import Data, DataConfig
from jaxgen.data.mixtures import Mixture
from jaxgen.data.tasks import tasks_of
from jaxgen.evaluation.config import EvaluationConfig
from jaxgen.objectives.base import Objective, Sum
from jaxgen.sharding.layout import Layout
from jaxgen.training.loading import check_batch_fits, put_batch

Scores = dict[str, Any]
REPEATED = 8
"""Batches that are read of data however few they are, so that short and long runs read as many."""


@dataclasses.dataclass(frozen=True)
class HeldoutLosses:
    """Scores a model on held-out batches, always the same ones; call it under `jax.set_mesh`.

    Every task of a mixture is read by itself, so that a task of small weight is scored on as many
    tokens; data of another kind is read as a whole.

    Attributes:
      objective: the run's; its metric "loss" (or the objective itself) is the held-out loss.
      mixture: the data.
      settings: the number of batches and their rows.
      length: tokens of a row.
      source_length: tokens of the encoder's row, where there is one.
    """

    objective: Objective
    mixture: DataConfig
    settings: EvaluationConfig
    length: int
    source_length: int | None = None

    def __call__(self, model: Any) -> dict[str, Scores]:
        """Returns the scores of each task.

        Returns:
          By task "loss" (nats/token; None if there was no row), and where it is finite
          "perplexity", "loss_interval" (95 %, from the scatter of batches, where there are
          several) and "bits_per_byte" of the text, where texts are predicted as they are. Of an
          objective with a unit of its own, "loss_unit" and no perplexity.
        """
        mesh = jax.sharding.get_mesh()
        rules = getattr(model, "layout", Layout()).rules
        name = "evaluation.batch_size"
        check_batch_fits(name, self.settings.batch_size, self.length, mesh, rules)
        scores = {}
        for part, data in self.opened.items():
            sums = []
            for step in range(self.num_batches(data)):
                one = self._loss_sum(model, put_batch(data.batch(step), mesh, rules))
                sums.append((float(np.sum(one.total)), float(np.sum(one.weight))))
            scores[part] = _scores(np.array(sums), self._num_bytes.get(part))
            if (unit := getattr(self.objective, "loss_unit", None)) is not None:
                scores[part] |= {"loss_unit": unit}
                scores[part].pop("perplexity", None)
        return scores

    @functools.cached_property
    def opened(self) -> dict[str, Data]:
        """The held-out data by task.

        Raises:
          DataError: if a task has too few for a batch.
        """
        if not getattr(self.mixture, "has_heldout_loss", True):
            return {}
        tasks = tasks_of(self.mixture)
        parts: list[DataConfig] = [
            Mixture(task.name, (dataclasses.replace(task, epochs=None),)) for task in tasks
        ]
        return {
            part.name: part.open(
                batch_size=self.settings.batch_size,
                length=self.length,
                seed=self.settings.seed,
                split="heldout",
                source_length=self.source_length,
            )
            for part in parts or [self.mixture]
        }

    @functools.cached_property
    def _num_bytes(self) -> dict[str, int]:
        """The bytes of the text that is predicted, by task; of denoisings none is."""
        plain = [task.name for task in tasks_of(self.mixture) if task.features.denoising is None]
        codec = self.mixture.codec
        return {
            name: sum(
                _bytes_of(self.opened[name].batch(step), codec)
                for step in range(self.num_batches(self.opened[name]))
            )
            for name in plain
        }

    def num_batches(self, data: Data) -> int:
        """Returns the batches to read: as set, or as many as there are (see REPEATED)."""
        count, rows = self.settings.num_batches, getattr(data, "rows_per_epoch", None)
        if rows is None or count <= REPEATED:
            return count
        (rows,) = rows.values()
        return min(count, max(REPEATED, math.ceil(rows / self.settings.batch_size)))

    @functools.cached_property
    def _loss_sum(self) -> Any:
        @jax.jit
        def loss_sum(model: Any, batch: Any) -> Sum:
            loss = self.objective(model, batch, None)
            return loss.metrics.get("loss", Sum(loss.total, loss.weight))

        return loss_sum


def _scores(sums: np.ndarray, num_bytes: int | None) -> Scores:
    """Returns the scores of one task from [batches, 2] sums of losses and of weights."""
    total, weight = (float(one) for one in sums.sum(axis=0))
    if not weight:
        return {"loss": None}
    loss = total / weight
    scores: Scores = {"loss": loss}
    if not math.isfinite(loss):
        return scores
    scores["perplexity"] = math.exp(min(loss, 700.0))
    means = sums[:, 0] / np.maximum(sums[:, 1], 1)
    if len(means) > 1:
        from scipy.stats import t

        margin = float(t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / math.sqrt(len(means)))
        scores["loss_interval"] = [loss - margin, loss + margin]
    if num_bytes:
        scores["bits_per_byte"] = total / math.log(2) / num_bytes
    return scores


def _bytes_of(batch: Any, codec: Codec) -> int:
    """Returns the UTF-8 bytes of a batch's targets that are in the loss, end tokens left out."""
    rows = zip(batch.targets, batch.loss_weights, strict=True)
    return sum(num_bytes(codec, targets[weights > 0]) for targets, weights in rows)
