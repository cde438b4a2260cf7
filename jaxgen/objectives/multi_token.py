"""Multi-token prediction: each position is also trained on the tokens after its next one."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.batch import Batch
from jaxgen.domains import NonNegativeFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.base import language_model
from jaxgen.objectives.base import Loss
from jaxgen.objectives.next_token import NextToken


@dataclasses.dataclass(frozen=True)
class MultiToken:
    """Next-token prediction, and of further tokens by modules of the model (2412.19437, 2.2).

    The loss is L + weight / D * (L_1 + ... + L_D) for the D modules of `model.mtp_depth`; all are
    sums over targets, divided by the weight of L. Evaluation has no modules: its loss is L.

    Attributes:
      next_token: how each prediction is scored.
      weight: of the further predictions.
      late_weight: their weight from the step `late_from` on, counted from 0.
      late_from: see `late_weight`; None: the weight stays.
    """

    next_token: NextToken = NextToken()
    weight: NonNegativeFloat = 0.3
    late_weight: NonNegativeFloat = 0.1
    late_from: PositiveInt | None = None

    def __post_init__(self):
        check_domains(self, "multi_token_loss")

    def __call__(self, model: Any, batch: Batch, key: jax.Array | None = None) -> Loss:
        """Returns the loss at the beginning of training."""
        return self._loss(self.weight, model, batch, key)

    def at_step(self, step: jax.Array) -> Any:
        """Returns the objective of a step, which may be traced."""
        if self.late_from is None:
            return self
        weight = jnp.where(step < self.late_from, self.weight, self.late_weight)
        return functools.partial(self._loss, weight)

    def _loss(self, weight: Any, model: Any, batch: Batch, key: jax.Array | None) -> Loss:
        model = language_model(model)
        depth = model.config.mtp_depth
        if not depth:
            raise ConfigError(
                "multi_token_loss needs a model with modules that predict further tokens: set "
                "model.mtp_depth, or use next_token_loss."
            )
        output = model(batch, key=key)
        loss = self.next_token.of_output(model, batch, output)
        if key is None:
            return loss
        total, metrics = loss.total, dict(loss.metrics)
        for number, (later, further) in enumerate(model.predict_ahead(batch, output, key), 1):
            part = self.next_token.of_output(model, later, further)
            total += weight / depth * part.total
            for name, one in part.metrics.items():
                if name in ("loss", "accuracy"):
                    metrics[f"mtp{number}_{name}"] = one
                elif name not in metrics:
                    metrics[name] = one
        return Loss(total, loss.weight, metrics)
