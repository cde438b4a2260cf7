"""The critical batch: steps against examples (McCandlish et al., 1812.06162, equation 2.11).

Training to one loss takes S steps and E examples, and over batch sizes B = E / S

    (S / S_min - 1)(E / E_min - 1) = 1,    that is    S = S_min + E_min / B.

At B_crit = E_min / S_min both are twice their minimum. It can be measured in two ways: by runs of
several batch sizes that reach one loss (`fit_critical_batch`, a straight line in 1 / B), or from
the gradients of one run, whose noise scale is of its size (`noise_scales`). Here batches and
examples are rows of train.length tokens.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.errors import StudyError


@dataclasses.dataclass(frozen=True)
class CriticalBatch:
    """The trade-off between steps and examples to one loss.

    Attributes:
      min_steps: the steps that suffice with very large batches.
      min_examples: the examples that suffice with very small batches.
    """

    min_steps: float
    min_examples: float

    @property
    def size(self) -> float:
        """The batch at which steps and examples are both twice their minimum."""
        return self.min_examples / self.min_steps

    def steps(self, batch: float) -> float:
        """Returns the steps that batches of a size need."""
        return self.min_steps + self.min_examples / batch

    def examples(self, batch: float) -> float:
        """Returns the examples that batches of a size need."""
        return self.min_examples + self.min_steps * batch


def fit_critical_batch(steps: Mapping[int, float]) -> CriticalBatch:
    """Fits the trade-off by least squares of relative errors.

    Args:
      steps: the steps to one loss by batch size, each at the best learning rate of that size.

    Raises:
      StudyError: fewer than three sizes, or steps that do not fall as batches grow.
    """
    if len(steps) < 3:
        raise StudyError(
            f"a critical batch is fitted to three batch sizes or more, not {sorted(steps)}; add "
            "runs of other train.batch_size, or choose a loss that more of them reach."
        )
    batch, found = (np.array(column, np.float64) for column in zip(*steps.items(), strict=True))
    terms = np.stack([np.ones_like(batch), 1 / batch], axis=1) / found[:, None]
    min_steps, min_examples = np.linalg.lstsq(terms, np.ones_like(batch), rcond=None)[0]
    if min_steps <= 0 or min_examples <= 0:
        raise StudyError(
            f"the steps by batch size {dict(sorted(steps.items()))} show no trade-off: either "
            "examples or steps do not depend on the batch. Add smaller or larger batches."
        )
    return CriticalBatch(float(min_steps), float(min_examples))


def steps_to_loss(rows: Sequence[Mapping[str, Any]], loss: float) -> float | None:
    """Returns the step at which the training loss first reaches a value; None if it never does.

    Between the rows of metrics.jsonl the loss is taken to be a straight line.
    """
    before = None
    for row in rows:
        if row.get("loss") is None:
            continue
        if row["loss"] <= loss:
            if before is None:
                return float(row["step"])
            share = (before["loss"] - loss) / (before["loss"] - row["loss"])
            return float(before["step"] + share * (row["step"] - before["step"]))
        before = row
    return None


def lowest_shared_loss(runs: Mapping[int, Sequence[Sequence[Mapping[str, Any]]]]) -> float:
    """Returns the lowest training loss that some run of every batch size reached.

    Args:
      runs: rows of metrics.jsonl, of several runs for each batch size.
    """
    return max(
        min(row["loss"] for rows in group for row in rows if row.get("loss") is not None)
        for group in runs.values()
    )


@dataclasses.dataclass(frozen=True)
class NoiseScale:
    """The gradient noise scale over a part of a run.

    Attributes:
      first_step: the first step of the part.
      last_step: the last step of the part.
      rows: the noise scale in rows; nan where the estimate of |G|^2 is not positive.
    """

    first_step: int
    last_step: int
    rows: float


def noise_scales(rows: Sequence[Mapping[str, Any]], parts: int = 4) -> list[NoiseScale]:
    """Returns the noise scale of equal parts of a run: ratios of means, not means of ratios.

    Args:
      rows: of metrics.jsonl, of a run with execution.noise_scale=True.
      parts: into how many the rows are divided.

    Raises:
      StudyError: no row has the noise scale.
    """
    measured = [row for row in rows if "noise_scale/variance" in row]
    if not measured:
        raise StudyError(
            "the run did not measure its noise scale; train one with "
            "--gin.execution.noise_scale=True and --gin.execution.accumulation=2 or more."
        )
    found, first = [], 1
    for part in np.array_split(np.arange(len(measured)), min(parts, len(measured))):
        steps = [measured[i]["step"] for i in part]
        lengths = np.diff([first - 1, *steps])
        variance = np.dot(lengths, [measured[i]["noise_scale/variance"] for i in part])
        square = np.dot(lengths, [measured[i]["noise_scale/squared_gradient"] for i in part])
        scale = float(variance / square) if square > 0 else math.nan
        found.append(NoiseScale(first, steps[-1], scale))
        first = steps[-1] + 1
    return found
