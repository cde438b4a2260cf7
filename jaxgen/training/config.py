"""The settings of training, apart from what is trained and on what."""

from __future__ import annotations

import dataclasses

from jaxgen.errors import ConfigError
from jaxgen.training.durations import parse_duration
from jaxgen.training.optimizers import Adafactor, AdamW
from jaxgen.training.schedules import InverseSquareRoot, WarmupCosine, WarmupStableDecay


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long, in what batches, with which optimiser.

    Attributes:
      steps: length of the run: 200, "200 steps", "3e6 tokens" or "20x" (tokens for each active
        parameter).
      batch_size: rows of a global batch.
      length: tokens of a row.
      seed: of the parameters and the data order.
      optimizer: AdamW or Adafactor.
      schedule: of the learning rate.
      clip_norm: gradients are scaled down to this global norm; None leaves them.
      accumulation: micro-batches that a batch is worked through in, to save memory.
      log_every: steps between rows of metrics.jsonl, each the mean over those steps.
      checkpoint_every: steps between checkpoints.
      keep_checkpoints: how many of the newest are kept.
    """

    steps: int | str
    batch_size: int = 16
    length: int = 256
    seed: int = 0
    optimizer: AdamW | Adafactor = AdamW()
    schedule: WarmupCosine | WarmupStableDecay | InverseSquareRoot = WarmupCosine()
    clip_norm: float | None = 1.0
    accumulation: int = 1
    log_every: int = 10
    checkpoint_every: int = 100
    keep_checkpoints: int = 2

    def __post_init__(self):
        parse_duration(self.steps)
        for name in (
            "batch_size",
            "length",
            "accumulation",
            "log_every",
            "checkpoint_every",
            "keep_checkpoints",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name}={getattr(self, name)} must be positive.")
        if self.batch_size % self.accumulation:
            raise ConfigError(
                f"train.batch_size={self.batch_size} does not divide into "
                f"train.accumulation={self.accumulation} micro-batches."
            )

    @property
    def tokens_per_step(self) -> int:
        """Positions of a global batch, padding included."""
        return self.batch_size * self.length

    def total_steps(self, active_parameters: int) -> int:
        """The length of the run in steps."""
        duration = parse_duration(self.steps)
        return duration.steps(
            tokens_per_step=self.tokens_per_step, active_parameters=active_parameters
        )
