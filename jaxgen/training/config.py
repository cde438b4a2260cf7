"""The settings of training, apart from what is trained and on what."""

from __future__ import annotations

import dataclasses
import functools

from jaxgen.errors import ConfigError
from jaxgen.training.batch_sizes import BatchRamp, BatchSizes, batch_sizes
from jaxgen.training.durations import parse_duration
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.optimizers.base import Optimizer
from jaxgen.training.schedules import Schedule, WarmupCosine


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long, in what batches, with which optimiser.

    Attributes:
      steps: length of the run: 200, "200 steps", "3e6 tokens" or "20x" (tokens for each active
        parameter).
      batch_size: rows of a global batch; of the full one, where there is a ramp.
      batch_ramp: smaller batches to begin with.
      length: tokens of a row.
      source_length: tokens of a row of the encoder; None: the model has none.
      seed: of the parameters and the data order.
      optimizer: of the parameters.
      schedule: of the learning rate.
      clip_norm: gradients are scaled down to this global norm; None leaves them.
      accumulation: micro-batches that a (full) batch is worked through in, to save memory.
      noise_scale: whether to measure the gradient noise scale, from how the gradients of a step's
        micro-batches differ; it needs 2 or more of them in every step.
      log_every: steps between rows of metrics.jsonl, each the mean over those steps.
      checkpoint_every: steps between checkpoints.
      keep_checkpoints: how many of the newest are kept.
      data_workers: processes that make batches; 0: a thread does, which is enough for small models
        and objectives that draw nothing. What comes does not depend on it.
    """

    steps: int | str
    batch_size: int = 16
    batch_ramp: BatchRamp | None = None
    length: int = 256
    source_length: int | None = None
    seed: int = 0
    optimizer: Optimizer = AdamW()
    schedule: Schedule = WarmupCosine()
    clip_norm: float | None = 1.0
    accumulation: int = 1
    noise_scale: bool = False
    log_every: int = 10
    checkpoint_every: int = 100
    keep_checkpoints: int = 2
    data_workers: int = 0

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
        if self.source_length is not None and self.source_length < 1:
            raise ConfigError(f"train.source_length={self.source_length} must be positive.")
        if self.data_workers < 0:
            raise ConfigError(f"train.data_workers={self.data_workers} must be 0 or more.")
        if self.batch_size % self.accumulation:
            raise ConfigError(
                f"train.batch_size={self.batch_size} does not divide into "
                f"train.accumulation={self.accumulation} micro-batches."
            )
        for size in (stage.batch_size for stage in self.batch_sizes.stages):
            if size > self.micro_batch_size and size % self.micro_batch_size:
                raise ConfigError(
                    f"a batch of {size} in train.batch_ramp is no multiple of "
                    f"{self.micro_batch_size}, the micro-batch of train.batch_size="
                    f"{self.batch_size} with train.accumulation={self.accumulation}."
                )
            if self.noise_scale and size < 2 * self.micro_batch_size:
                raise ConfigError(
                    f"train.noise_scale=True compares the micro-batches of a step, and a batch of "
                    f"{size} is a single one of {self.micro_batch_size} rows (train.batch_size / "
                    f"train.accumulation); raise train.accumulation={self.accumulation} so that "
                    "each batch has 2 or more, or set train.noise_scale=False."
                )

    @functools.cached_property
    def batch_sizes(self) -> BatchSizes:
        """The rows of every step."""
        return batch_sizes(self.batch_size, self.length, self.batch_ramp)

    @property
    def micro_batch_size(self) -> int:
        """Rows that are worked through at once."""
        return self.batch_size // self.accumulation

    def accumulation_at(self, step: int) -> int:
        """Micro-batches of a step, counted from 0."""
        return max(1, self.batch_sizes.at(step) // self.micro_batch_size)

    def tokens_before(self, step: int) -> int:
        """Positions of the batches before a step, counted from 0, padding included."""
        return self.batch_sizes.rows_before(step) * self.length

    def steps_for_tokens(self, tokens: float) -> int:
        """The fewest steps that see so many tokens."""
        return self.batch_sizes.steps_for_rows(tokens / self.length)

    def total_steps(self, active_parameters: int) -> int:
        """The length of the run in steps."""
        duration = parse_duration(self.steps)
        return duration.steps(
            steps_for_tokens=self.steps_for_tokens, active_parameters=active_parameters
        )
