"""The settings of training, apart from what is trained and on what."""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated

from jaxgen.domains import (
    InnerFraction,
    PositiveFloat,
    PositiveInt,
    Seed,
    check_domains,
)
from jaxgen.errors import ConfigError
from jaxgen.training.batch_sizes import BatchRamp, BatchSizes, batch_sizes
from jaxgen.training.divergence import Divergence, Skip
from jaxgen.training.durations import DurationDomain, DurationLike, parse_duration
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.optimizers.base import Optimizer
from jaxgen.training.schedules import Schedule, WarmupCosine

MOST_TOKENS = 2**63 - 1
"""What 64 bits can count."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The length of training, its batches and its optimiser.

    Attributes:
      steps: length of the run: 200, "200 steps", "3e6 tokens" or "20x" (tokens for each active
        parameter).
      batch_size: rows of a global batch; of the full one, where there is a ramp.
      batch_ramp: smaller batches to begin with.
      length: tokens of a row.
      source_length: tokens of a row of the encoder, or of a caption by the data's second codec;
        None: the model has neither.
      seed: of the parameters and the data order.
      freeze: patterns of parameters' names, as `jaxgen models show` prints them, that are not
        trained: "embedding*", "stack.*norm*"; `*` stands for anything.
      optimizer: of the parameters.
      schedule: of the learning rate.
      clip_norm: gradients are scaled down to this global norm; None leaves them.
      ema_decay: of exponential moving averages of the parameters, which `evaluation.ema` and
        `--ema` use; at step t it is min(ema_decay, (1 + t) / (10 + t)). None: there are none.
      divergence: the way on where the loss diverges; None: what is not finite ends the run, and
        the curve is shown as it is.
      skip_batches: batches of the full size that are left out, such as what `divergence` has left
        out in another run.
    """

    steps: Annotated[DurationLike, DurationDomain(0, ends="(]", of_run=False)]
    batch_size: PositiveInt = 16
    batch_ramp: BatchRamp | None = None
    length: PositiveInt = 256
    source_length: PositiveInt | None = None
    seed: Seed = 0
    freeze: tuple[str, ...] = ()
    optimizer: Optimizer = AdamW()
    schedule: Schedule = WarmupCosine()
    clip_norm: PositiveFloat | None = 1.0
    ema_decay: InnerFraction | None = None
    divergence: Divergence | None = None
    skip_batches: tuple[Skip, ...] = ()

    def __post_init__(self):
        check_domains(self, "train")
        for skip in self.skip_batches:
            self.check_may_skip(skip.after)
        # A ramp that does not lead to the full batch is refused.
        batch_sizes(self.batch_size, self.length, self.batch_ramp)

    @functools.cached_property
    def batch_sizes(self) -> BatchSizes:
        """The rows of every step."""
        return batch_sizes(self.batch_size, self.length, self.batch_ramp)

    def check_may_skip(self, step: int) -> None:
        """Raises ConfigError if the batches after so many steps are not yet of the full size."""
        if self.batch_sizes.at(step) != self.batch_size:
            raise ConfigError(
                f"batches after step {step} cannot be left out: the batch grows until later "
                "(train.batch_ramp), and those in their place would be of another size."
            )

    def tokens_before(self, step: int, rows_per_example: int = 1) -> int:
        """Positions of the batches before a step, counted from 0, padding included.

        Args:
          step: counted from 0.
          rows_per_example: of the data, such as the completions of a prompt; see `DataConfig`.
        """
        return self.batch_sizes.rows_before(step) * self.length * rows_per_example

    def steps_for_tokens(self, tokens: float, rows_per_example: int = 1) -> int:
        """Returns the fewest steps that see so many tokens."""
        return self.batch_sizes.steps_for_rows(tokens / (self.length * rows_per_example))

    def total_steps(self, active_parameters: int, rows_per_example: int = 1) -> int:
        """Returns the length of the run in steps.

        Raises:
          ConfigError: if its tokens are more than can be counted.
        """
        duration = parse_duration(self.steps)
        steps = duration.steps(
            steps_for_tokens=lambda tokens: self.steps_for_tokens(tokens, rows_per_example),
            active_parameters=active_parameters,
        )
        tokens = self.tokens_before(steps, rows_per_example)
        if tokens > MOST_TOKENS:
            raise ConfigError(
                f"train.steps={self.steps!r} are {float(tokens):.3g} tokens, in batches of "
                f"train.batch_size={self.batch_size} rows of train.length={self.length}, and no "
                f"more than {float(MOST_TOKENS):.3g} can be counted; train for fewer."
            )
        return steps
