"""What is scored, and when."""

from __future__ import annotations

import dataclasses

from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How a run is judged.

    Attributes:
      num_examples: held-out instances of each task that has answers.
      num_batches: held-out batches, of the training shape, for the loss of each task.
      batch_size: rows scored at a time.
      seed: of the choice of instances and batches; equal for all runs that are compared.
      at_checkpoints: whether to score at every checkpoint, or only at the end.
    """

    num_examples: int = 256
    num_batches: int = 8
    batch_size: int = 64
    seed: int = 0
    at_checkpoints: bool = False

    def __post_init__(self):
        for name in ("num_examples", "num_batches", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"evaluation.{name}={getattr(self, name)} must be positive.")
