"""What a run does where its loss diverges: it skips updates, goes back, and leaves out batches."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from jaxgen.data.base import Data
from jaxgen.domains import NonNegativeInt, PositiveFloat, PositiveInt, check_domains

_TO_DEVIATION = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""


@dataclasses.dataclass(frozen=True)
class Skip:
    """Batches of the data's order that are left out.

    Attributes:
      after: so many steps.
      count: of the batches.
    """

    after: NonNegativeInt
    count: PositiveInt

    def __post_init__(self):
        check_domains(self, "skip")


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The way on where a loss diverges: back to a checkpoint, and past the batches that did it.

    That is what PaLM's training did by hand (2204.02311, section 5.1: back by about 100 steps, past
    200 to 500 batches). A step whose loss or gradient is not finite updates nothing, but for the
    learning rate's schedule; some of these are borne. The decisions follow from the losses alone,
    so that the same run makes them again; each is a line of history.jsonl.

    Attributes:
      max_skipped_updates: steps in a row without a finite loss and gradient that are borne.
      spike: a loss is a spike where it is above the median of the `window` before it by more than
        so many of their standard deviations, estimated by the median absolute deviation; None: only
        what is not finite is acted on.
      window: finite losses, of steps without a spike, that a loss is compared with; fewer than half
        of it are too few to tell.
      patience: spikes in a row that are acted on; fewer are borne.
      rewind_steps: the run goes back to the newest checkpoint that is at least so many steps before
        the first bad one, or else to its beginning.
      skip_steps: batches that are left out after the last bad one, beside those from the checkpoint
        to there.
      max_rewinds: of a run; a further one ends it.
    """

    max_skipped_updates: NonNegativeInt = 2
    spike: PositiveFloat | None = None
    window: PositiveInt = 128
    patience: PositiveInt = 3
    rewind_steps: NonNegativeInt = 0
    skip_steps: NonNegativeInt = 0
    max_rewinds: PositiveInt = 5

    def __post_init__(self):
        check_domains(self, "divergence")


class Guard:
    """Watches the losses of a run, step by step, and says when to go back.

    Args:
      settings: the rule.
      record: what `to_record` gave at the checkpoint from which the run goes on.
    """

    def __init__(self, settings: Divergence, record: dict[str, Any] | None = None):
        record = record or {"losses": [], "streak": []}
        self.settings = settings
        self._losses: list[float] = list(record["losses"])
        self._streak: list[tuple[int, str]] = [(step, why) for step, why in record["streak"]]

    def to_record(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps of it."""
        return {"losses": self._losses, "streak": self._streak}

    def see(self, step: int, loss: float, is_finite: bool) -> None:
        """Takes the loss of a step, and whether that and its gradient are finite.

        Once it says to go back, later steps change nothing: how many are seen is chance.
        """
        if self.bad_steps is not None:
            return
        if not is_finite:
            self._streak.append((step, "not finite"))
        elif self._is_spike(loss):
            self._streak.append((step, "a spike"))
        else:
            self._streak = []
            self._losses = [*self._losses, loss][-self.settings.window :]

    @property
    def bad_steps(self) -> tuple[int, int] | None:
        """The first and the last of the steps for which to go back; None: there are none."""
        kinds = [why for _, why in self._streak]
        over = kinds.count("not finite") > self.settings.max_skipped_updates
        if over or kinds.count("a spike") >= self.settings.patience:
            return self._streak[0][0], self._streak[-1][0]
        return None

    def _is_spike(self, loss: float) -> bool:
        spike = self.settings.spike
        if spike is None or len(self._losses) < max(2, self.settings.window // 2):
            return False
        middle = statistics.median(self._losses)
        spread = _TO_DEVIATION * statistics.median(abs(one - middle) for one in self._losses)
        return math.isfinite(middle) and loss > middle + spike * spread


def data_step(step: int, skips: Sequence[Skip]) -> int:
    """Returns the step of the data's order whose batch a step trains on, both counted from 0."""
    return step + sum(skip.count for skip in skips if step >= skip.after)


def read_batches(data: Data, first: int, skips: Sequence[Skip], **options: Any) -> Iterator[Any]:
    """Yields the batches of a step and of those after it, without what is left out.

    Args:
      data: in its order.
      first: the step, counted from 0.
      skips: what is left out.
      **options: of `Data.iterate`.
    """
    begins = [first, *sorted({skip.after for skip in skips if skip.after > first})]
    for begin, end in itertools.zip_longest(begins, begins[1:]):
        batches = data.iterate(data_step(begin, skips), **options)
        yield from itertools.islice(batches, None if end is None else end - begin)
