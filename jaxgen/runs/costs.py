"""The cost of a run, counted from its configuration alone."""

from __future__ import annotations

import dataclasses

from jaxgen.runs.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Cost:
    """The compute of a run.

    Attributes:
      parameters: that compute a token (active).
      steps: it takes.
      tokens: it sees.
      flops: of all its steps.
    """

    parameters: int
    steps: int
    tokens: int
    flops: int


def cost_of(config: RunConfig) -> Cost:
    """Returns the exact cost of a run, without building anything."""
    active = config.model.count().active
    rows = config.rows_per_example
    steps = config.train.total_steps(active, rows)
    tokens = config.train.tokens_before(steps, rows)
    flops = tokens * config.model.flops(config.train.length)
    return Cost(active, steps, tokens, flops)
