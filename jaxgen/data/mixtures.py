"""A mixture of tasks: with fixed shares, shares by size, or shares that change on the way."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction

import jax
import numpy as np

from jaxgen.batch import Batch
from jaxgen.codecs.codec import Codec
from jaxgen.codecs.media import media_ranges, modality_names
from jaxgen.data.loading import MixtureData, as_batch
from jaxgen.data.packing import RowShape, pack_row, slots_for
from jaxgen.data.protocols import Split
from jaxgen.data.rows import open_rows
from jaxgen.data.schedule import RowSchedule, ShareStage
from jaxgen.data.shares import as_written
from jaxgen.data.tasks import Task
from jaxgen.domains import NonNegativeFloat, PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import DataError


@dataclasses.dataclass(frozen=True)
class MixtureStage:
    """Weights of a mixture from a step on.

    Attributes:
      first_step: the first step whose batch has these weights, counted from 0.
      weights: the weights of the mixture's parts; 0 leaves one out.
    """

    first_step: PositiveInt
    weights: dict[str, NonNegativeFloat]

    def __post_init__(self):
        check_domains(self, "mixture_stage")


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Tasks and their shares of the rows; an implementation of `data.base.DataConfig`.

    Attributes:
      name: the name in tables.
      tasks: tasks of different names and one codec; a mixture among them has one weight.
      weights: each part's share of the rows, up to a common factor; None takes the rows of an
        epoch of each.
      temperature: shares are taken to the power of 1 / temperature, so more is flatter (T5,
        1910.10683, 3.5.2).
      size_limit: the largest number of rows of a task that shares by size count.
      stages: weights from later steps on, in order of their steps.
    """

    name: str
    tasks: tuple[Task | Mixture, ...]
    weights: dict[str, PositiveFloat] | None = None
    temperature: PositiveFloat = 1.0
    size_limit: PositiveInt | None = None
    stages: tuple[MixtureStage, ...] = ()

    def __post_init__(self):
        check_domains(self, "mixture")
        names = [task.name for task in self.tasks]
        if not names:
            raise DataError(f"mixture {self.name} has no task.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"mixture {self.name} has the task name(s) {twice} twice; rename one.")
        if len({task.codec for task in self.every_task}) > 1:
            codecs = {task.name: task.codec for task in self.every_task}
            raise DataError(f"mixture {self.name}: all tasks must share one codec, not {codecs}.")
        if self.weights is not None:
            self._check_weights(self.weights, "mixture.weights")
        steps = [stage.first_step for stage in self.stages]
        if steps != sorted(set(steps)):
            raise DataError(
                f"mixture {self.name}: its stages begin at the steps {steps}, which must grow."
            )
        for stage in self.stages:
            self._check_weights(stage.weights, f"the stage of step {stage.first_step}")

    def _check_weights(self, weights: dict[str, float], what: str) -> None:
        names = [task.name for task in self.tasks]
        if set(weights) != set(names):
            raise DataError(
                f"mixture {self.name}: {what} names {sorted(weights)}, tasks are "
                f"{sorted(names)}; give each task one weight."
            )
        if not any(weights.values()):
            raise DataError(f"mixture {self.name}: {what} leaves every task out.")

    @property
    def codec(self) -> Codec:
        """Returns the codec that all tasks share."""
        return self.every_task[0].codec

    @property
    def every_task(self) -> tuple[Task, ...]:
        """Returns the tasks of this mixture and of those inside it, by name.

        Raises:
          DataError: if two different tasks have one name.
        """
        tasks: dict[str, Task] = {}
        for part in self.tasks:
            for task in part.every_task:
                if tasks.setdefault(task.name, task) != task:
                    raise DataError(
                        f"mixture {self.name} has two different tasks named {task.name!r}; rename "
                        "one."
                    )
        return tuple(tasks[name] for name in sorted(tasks))

    @property
    def task_names(self) -> tuple[str, ...]:
        """Returns the names in the order of task_ids, which is alphabetical."""
        return tuple(task.name for task in self.every_task)

    def with_codec(self, codec: Codec) -> Mixture:
        """Returns the mixture with another codec in every task."""
        return dataclasses.replace(self, tasks=tuple(part.with_codec(codec) for part in self.tasks))

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> Batch:
        """Returns a batch of `jax.ShapeDtypeStruct`; see `DataConfig.batch_spec`."""
        row = pack_row((), self._row_shape(length, source_length), pad=0)
        row["task_ids"] = np.zeros_like(row["tokens"])
        spec = {
            name: jax.ShapeDtypeStruct((batch_size, *array.shape), array.dtype)
            for name, array in row.items()
        }
        return as_batch(spec, self.task_names, modality_names(self.codec))

    def _row_shape(self, length: int, source_length: int | None) -> RowShape:
        tasks = self.every_task
        has_blocks, has_pairs = (
            any(flags) for flags in zip(*((t.has_blocks, t.has_pairs) for t in tasks), strict=True)
        )
        has_media = bool(modality_names(self.codec))
        slots = slots_for(media_ranges(self.codec), length)
        return RowShape(length, source_length, has_blocks, has_pairs, has_media, slots)

    def open(
        self,
        *,
        batch_size: int,
        length: int,
        seed: int,
        split: Split = "train",
        source_length: int | None = None,
        rows_before: Callable[[int], int] | None = None,
    ) -> MixtureData:
        """Opens the mixture; see `DataConfig.open`.

        Raises:
          DataError: if a task cannot be read or packed.
        """
        shape = self._row_shape(length, source_length)
        rows = {task.name: open_rows(task, shape, seed, split) for task in self.every_task}
        first_row = rows_before or functools.partial(operator.mul, batch_size)
        sizes = {name: of_task.rows_per_epoch for name, of_task in rows.items()}
        stages = [ShareStage(0, tuple(self.shares(sizes).values()))]
        for stage in self.stages:
            shares = self.shares(sizes, stage.weights)
            stages.append(ShareStage(first_row(stage.first_step), tuple(shares.values())))
        limits = [
            None if task.epochs is None else math.ceil(task.epochs * of_task.rows_per_epoch)
            for task, of_task in zip(self.every_task, rows.values(), strict=True)
        ]
        schedule = RowSchedule(stages, limits)
        return MixtureData(rows, schedule, first_row, modality_names(self.codec))

    def shares(
        self, rows_per_epoch: Mapping[str, int], weights: dict[str, float] | None = None
    ) -> dict[str, Fraction]:
        """Returns each task's share of the rows; they sum to 1.

        Args:
          rows_per_epoch: the rows of an epoch of every task.
          weights: the weights of a stage, in place of the mixture's own.
        """
        weights = self.weights if weights is None else weights
        if weights is None:
            own = {part.name: Fraction(self._size(part, rows_per_epoch)) for part in self.tasks}
        else:
            own = {name: as_written(weight) for name, weight in weights.items()}
        if self.temperature != 1:
            own = {name: as_written(float(w) ** (1 / self.temperature)) for name, w in own.items()}
        shares = dict.fromkeys(self.task_names, Fraction(0))
        for part in self.tasks:
            for name, share in part.shares(rows_per_epoch).items():
                shares[name] += share * own[part.name] / sum(own.values())
        return shares

    def _size(self, part: Task | Mixture, rows_per_epoch: Mapping[str, int]) -> int:
        sizes = [rows_per_epoch[task.name] for task in part.every_task]
        return sum(
            size if self.size_limit is None else min(size, self.size_limit) for size in sizes
        )
