"""The rows of each step's batch: one number, or a ramp of stages that grow."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Iterator
from typing import Protocol

from jaxgen.domains import PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError


class BatchRamp(Protocol):
    """Settings that say how a run's batches grow to the full size."""

    def stages(self, full: int, length: int) -> Iterator[tuple[int, int]]:
        """Yields (rows seen before, batch size) of each size; the last is `full`.

        Args:
          full: rows of a full batch.
          length: tokens of a row.
        """
        ...


@dataclasses.dataclass(frozen=True)
class LinearRamp:
    """Batches grow from `start` rows to the full size, `increment` at a time, over so many tokens.

    Each size lasts for its share of the tokens (GPT-3, 2005.14165, appendix B; Megatron-LM's
    --rampup-batch-size). Every size is compiled once.

    Attributes:
      start: rows of the first steps.
      increment: rows more from size to size.
      tokens: after which the batch is full.
    """

    start: PositiveInt
    increment: PositiveInt
    tokens: PositiveFloat

    def __post_init__(self):
        check_domains(self, "linear_ramp")

    def stages(self, full: int, length: int) -> Iterator[tuple[int, int]]:
        """Yields (rows seen before, batch size) of each size."""
        if self.start > full or (full - self.start) % self.increment:
            raise ConfigError(
                f"linear_ramp.increment={self.increment} does not lead from linear_ramp.start="
                f"{self.start} to train.batch_size={full}."
            )
        count = (full - self.start) // self.increment
        rows = self.tokens / length
        for stage in range(count + 1):
            yield math.ceil(rows * stage / max(count, 1)), self.start + stage * self.increment


@dataclasses.dataclass(frozen=True)
class SteppedRamp:
    """Batches are smaller up to certain steps, then full (PaLM, 2204.02311, 5).

    Attributes:
      sizes: of each stage before the full batch.
      until: the step at which each ends.
    """

    sizes: tuple[PositiveInt, ...]
    until: tuple[PositiveInt, ...]

    def __post_init__(self):
        check_domains(self, "stepped_ramp")
        if len(self.sizes) != len(self.until) or not self.sizes:
            raise ConfigError(
                f"stepped_ramp.sizes={self.sizes} and stepped_ramp.until={self.until} must be of "
                "one length, one or more."
            )
        if list(self.until) != sorted(set(self.until)):
            raise ConfigError(f"stepped_ramp.until={self.until} must grow.")

    def stages(self, full: int, length: int) -> Iterator[tuple[int, int]]:
        """Yields (rows seen before, batch size) of each size."""
        del length
        rows, begin = 0, 0
        for size, end in zip(self.sizes, self.until, strict=True):
            yield rows, size
            rows, begin = rows + (end - begin) * size, end
        yield rows, full


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage is steps of one batch size: its first step, and that step's first row of the data."""

    first_step: int
    first_row: int
    batch_size: int


@dataclasses.dataclass(frozen=True)
class BatchSizes:
    """The batch size as a function of the step, counted from 0; the last stage has no end."""

    stages: tuple[Stage, ...]

    def at(self, step: int) -> int:
        """Returns the rows of a step's batch."""
        return self._of_step(step).batch_size

    def rows_before(self, step: int) -> int:
        """Returns the rows that the steps before one have taken: the first of its batch."""
        stage = self._of_step(step)
        return stage.first_row + (step - stage.first_step) * stage.batch_size

    def steps_for_rows(self, rows: float) -> int:
        """Returns the fewest steps that take so many rows."""
        starts = [stage.first_row for stage in self.stages]
        stage = self.stages[max(0, bisect.bisect_left(starts, rows) - 1)]
        return stage.first_step + math.ceil((rows - stage.first_row) / stage.batch_size)

    def _of_step(self, step: int) -> Stage:
        starts = [stage.first_step for stage in self.stages]
        return self.stages[bisect.bisect_right(starts, step) - 1]


def batch_sizes(full: int, length: int, ramp: BatchRamp | None) -> BatchSizes:
    """Returns the sizes of a run with batches of `full` rows of `length` tokens at the end.

    Raises:
      ConfigError: if the ramp does not lead there.
    """
    stages = [Stage(0, 0, full)]
    if ramp is not None:
        planned = list(ramp.stages(full, length))
        stages = [Stage(0, 0, planned[0][1])]
        for rows, size in planned[1:]:
            before = stages[-1]
            # A step is never cut: a size lasts until its share of the rows is reached.
            steps = math.ceil(max(0, rows - before.first_row) / before.batch_size)
            first_row = before.first_row + steps * before.batch_size
            stages.append(Stage(before.first_step + steps, first_row, size))
    return BatchSizes(tuple(_without_empty(stages)))


def _without_empty(stages: list[Stage]) -> list[Stage]:
    following = [stage.first_step for stage in stages[1:]] + [math.inf]
    return [stage for stage, end in zip(stages, following, strict=True) if stage.first_step < end]
