"""Comparisons: batches of prompts with completions that were compared, ranked or labelled."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.data.base import HostRows
from jaxgen.data.chat import Chat
from jaxgen.data.comparison_fields import ComparisonLayout, PreferencePairs
from jaxgen.data.comparison_rows import ROWS, ComparisonRows, ToRows, other_completion, row_arrays
from jaxgen.data.epoch_records import EpochRecords, OpenedRecords
from jaxgen.data.protocols import Source, Split
from jaxgen.data.reference_file import ReferenceFile
from jaxgen.data.shares import Interleaving, as_written, whole_parts
from jaxgen.data.tasks import Task
from jaxgen.domains import PositiveFloat, check_domains
from jaxgen.errors import ConfigError, DataError
from jaxgen.group_batch import GroupBatch, group_batch_spec


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """Prompts and their completions, a group a row; an implementation of `data.base.DataConfig`.

    The batch of a step is a function of (comparisons, seed, step). An epoch has every record of the
    split once, in an order of its own; tasks alternate in exact shares. A row is the begin token,
    prompt, completion and end token; texts are encoded as they are, and messages by the template.

    Attributes:
      tasks: the sources and their preprocessors; their features have no part in it.
      layout: the fields that hold what is compared.
      chat: the template of completions that are messages.
      too_long: what is done with a record of which a completion does not fit a row: "skip" leaves
        it out, "cut" cuts the completion's end (and leaves out one that has none left).
      unusable: what is done with one that compares nothing: no, empty or equal completions, a
        template that writes no answer.
      others: whether each completion has another of its batch beside it, after its own prompt, for
        the baseline of KTO.
      reference: a file of `jaxgen reference` with the log-probabilities of all completions under
        a frozen reference, in place of one in the policy.
      weights: shares of the tasks, by name; None: as many rows as each has records.
      name: the name in tables.
    """

    tasks: tuple[Task, ...]
    layout: ComparisonLayout = PreferencePairs()
    chat: Chat = Chat()
    too_long: Literal["skip", "cut", "error"] = "skip"
    unusable: Literal["skip", "error"] = "skip"
    others: bool = False
    reference: str | None = None
    weights: dict[str, PositiveFloat] | None = None
    name: str = "comparisons"

    def __post_init__(self):
        check_domains(self, "comparisons")
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"comparisons.tasks are {names}: name one or more, each by its own.")
        if self.weights is not None and set(self.weights) != set(names):
            raise ConfigError(
                f"comparisons.weights has {sorted(self.weights)}, and the tasks are "
                f"{sorted(names)}; give each a weight, or leave the weights out."
            )
        if any(task.codec != self.codec for task in self.tasks):
            raise ConfigError("the tasks of comparisons have unlike codecs; give all the same.")
        if self.others and self.layout.group != 1:
            raise ConfigError(
                f"comparisons.others is for completions by themselves, and {self.layout} has "
                f"groups of {self.layout.group}; leave it out, or use @labelled_completions()."
            )
        if self.reference is not None:
            self.check_is_stored("comparisons.reference")
            if self.others:
                raise ConfigError(
                    "comparisons.reference has completions after their own prompts alone, and "
                    "comparisons.others asks for them after others: leave one out."
                )

    def check_is_stored(self, asked_by: str) -> None:
        """Raises ConfigError if records are made on the spot or drawn, others in each epoch."""
        made = [task.name for task in self.tasks if task.is_indexed or task.draws]
        if made:
            raise ConfigError(
                f"{asked_by} is for stored records, and those of {made} are made or drawn anew in "
                "each epoch: set policy.reference = True, or write them to a file "
                "(`jaxgen tasks`)."
            )

    @property
    def codec(self) -> Codec:
        """Returns the tasks' codec."""
        return self.tasks[0].codec

    @property
    def task_names(self) -> tuple[str, ...]:
        """Returns the names of the tasks."""
        return tuple(task.name for task in self.tasks)

    @property
    def sources(self) -> dict[str, Source]:
        """Returns the tasks' sources and the reference's file, which a run records."""
        found: dict[str, Any] = {task.name: task.source for task in self.tasks}
        if self.reference is not None:
            found["comparisons.reference"] = ReferenceFile(self.reference)
        return found

    @property
    def group(self) -> int:
        """Returns the completions of a row."""
        return 2 if self.others else self.layout.group

    @property
    def rows_per_example(self) -> int:
        """Returns the same, which a model reads a row each of."""
        return self.group

    def with_codec(self, codec: Codec) -> Comparisons:
        """Returns the comparisons with another codec."""
        return dataclasses.replace(self, tasks=tuple(one.with_codec(codec) for one in self.tasks))

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> GroupBatch:
        """Returns a batch of `jax.ShapeDtypeStruct`; see `DataConfig.batch_spec`."""
        del source_length
        spec = group_batch_spec(batch_size, self.group, length)
        scores, layout = spec.completion_weights, self.layout
        label = jax.ShapeDtypeStruct((batch_size,), np.float32)
        return dataclasses.replace(
            spec,
            preference=label if getattr(layout, "has_preference", False) else None,
            step_scores=scores if getattr(layout, "has_steps", False) else None,
            reference=None if self.reference is None else scores,
            task_names=self.task_names,
        )

    def open(
        self,
        *,
        batch_size: int,
        length: int,
        seed: int,
        split: Split = "train",
        source_length: int | None = None,
        rows_before: Callable[[int], int] | None = None,
    ) -> OpenedComparisons:
        """Opens the comparisons; see `DataConfig.open`.

        Raises:
          DataError: if they cannot be read, or none is left.
        """
        if source_length is not None:
            raise DataError("comparisons are for a model without an encoder: no source_length.")
        first_row = rows_before or functools.partial(operator.mul, batch_size)
        return OpenedComparisons(self, length, seed, split, first_row)


class OpenedComparisons(OpenedRecords):
    """The batches of comparisons by step; see `data.base.Data`."""

    BATCH = GroupBatch

    def __init__(
        self,
        data: Comparisons,
        length: int,
        seed: int,
        split: Split,
        rows_before: Callable[[int], int],
    ):
        self._data, self._length, self._rows_before = data, length, rows_before
        self.task_names = data.task_names
        settings = data.layout, data.chat, data.codec, length, data.too_long, data.unusable
        steps = self._steps = [
            ToRows(*settings, keeps_places=task.is_indexed) for task in data.tasks
        ]
        self._by_task: list[EpochRecords] = []
        for task, step in zip(data.tasks, steps, strict=True):
            whole = dataclasses.replace(task, preprocessors=(*task.preprocessors, step))
            try:
                self._by_task.append(EpochRecords(whole, seed, split, "comparisons"))
            except DataError as error:
                counted = f" ({dict(step.left_out)} left out)" if step.left_out else ""
                raise type(error)(f"task {task.name}: {error}{counted}") from error
        self._reference = None if data.reference is None else ReferenceFile(data.reference)
        if self._reference is not None:
            self._check_reference(self._reference)
        self.num_records = sum(records.num_records for records in self._by_task)
        self._order = Interleaving(whole_parts(self._shares()))

    @property
    def left_out(self) -> dict[str, dict[str, int]]:
        """How many records of each task were, by the reason, of those that were read here."""
        counts = (dict(step.left_out) for step in self._steps)
        return dict(zip(self.task_names, counts, strict=True))

    def _check_reference(self, reference: ReferenceFile) -> None:
        """Raises DataError, at the start, if it lacks one of the completions."""
        reference.check_codec(self._data.codec)
        for records in self._by_task:
            for record in records.at(range(records.num_records), in_order=False):
                for row in record[ROWS].rows:
                    reference.log_probabilities(row)

    def _shares(self) -> list[Any]:
        weights = self._data.weights
        if weights is None:
            return [as_written(records.num_records) for records in self._by_task]
        return [as_written(weights[name]) for name in self.task_names]

    def _made(self, arrays: dict[str, Any]) -> GroupBatch:
        return GroupBatch(**arrays, task_names=self.task_names)

    def seen(self, num_rows: int) -> dict[str, Any]:
        """Returns what so many rows are of each task; see `Data.seen`."""
        counts = dict(zip(self.task_names, self._order.counts(num_rows), strict=True))
        sizes = dict(zip(self.task_names, (one.num_records for one in self._by_task), strict=True))
        return {
            "shares": {name: count / max(1, num_rows) for name, count in counts.items()},
            "epochs": {name: count / sizes[name] for name, count in counts.items()},
            "examples": {name: min(count, sizes[name]) for name, count in counts.items()},
            "left_out": self.left_out,
        }

    def records(self, start: int, stop: int) -> tuple[list[ComparisonRows], np.ndarray]:
        """Returns rows [start, stop) of the sequence, and the task of each."""
        tasks, places = self._order.rows(start, stop)
        found: list[Any] = [None] * (stop - start)
        for number, records in enumerate(self._by_task):
            rows = np.flatnonzero(tasks == number)
            of_task = records.at(places[rows].tolist())
            for row, record in zip(rows, of_task, strict=True):
                found[row] = record[ROWS]
        return found, tasks

    def all_records(self, start: int, stop: int) -> list[ComparisonRows]:
        """Returns records [start, stop) of all tasks, one after another in their sources' order."""
        found: list[ComparisonRows] = []
        for records in self._by_task:
            places = range(max(0, start), min(stop, records.num_records))
            found += [record[ROWS] for record in records.at(places, in_order=False)]
            start, stop = start - records.num_records, stop - records.num_records
        return found

    def batch_of(self, records: list[ComparisonRows], task_ids: np.ndarray) -> GroupBatch:
        """Returns a batch of records, [records] of these tasks."""
        return self._made(self._arrays(records) | {"task_ids": task_ids})

    def _read(self, host_rows: HostRows | None, step: int) -> dict[str, np.ndarray]:
        start, stop = self._rows_before(step), self._rows_before(step + 1)
        records, tasks = self.records(start, stop)
        if self._data.others:
            records = _with_others(records, self._length)
        if host_rows is not None:
            chosen = host_rows(stop - start)
            records, tasks = [records[row] for row in chosen], tasks[list(chosen)]
        return self._arrays(records) | {"task_ids": tasks.astype(np.int32)}

    def _arrays(self, records: list[ComparisonRows]) -> dict[str, np.ndarray]:
        size, length = (len(records), self._data.group), self._length
        pad_id = self._data.codec.pad_id
        arrays: dict[str, np.ndarray] = {
            "tokens": np.full((*size, length), pad_id, np.int32),
            "targets": np.full((*size, length), pad_id, np.int32),
            "completion_weights": np.zeros((*size, length), np.float32),
        }
        if getattr(self._data.layout, "has_steps", False):
            arrays["step_scores"] = np.full((*size, length), -1.0, np.float32)
        if self._reference is not None:
            arrays["reference"] = np.zeros((*size, length), np.float32)
        arrays["lengths"] = np.zeros(size, np.int32)
        arrays["scores"] = np.zeros(size, np.float32)
        for place, record in enumerate(records):
            for number, row in enumerate(record.rows):
                for name, array in row_arrays(row, length, pad_id).items():
                    arrays[name][place, number] = array
                arrays["lengths"][place, number] = len(row.tokens)
                if self._reference is not None:
                    is_target = arrays["completion_weights"][place, number] > 0
                    found = self._reference.log_probabilities(row)
                    arrays["reference"][place, number, is_target] = found
            arrays["scores"][place, : len(record.scores)] = record.scores
        if getattr(self._data.layout, "has_preference", False):
            preferences = [record.preference for record in records]
            arrays["preference"] = np.array(preferences, np.float32)
        return arrays


def _with_others(records: list[ComparisonRows], length: int) -> list[ComparisonRows]:
    """Returns the rows, each with the next one's completion after its own prompt."""
    if len(records) < 2:
        raise DataError("comparisons.others needs batches of two rows or more.")
    following = [*records[1:], records[0]]
    return [
        one._replace(rows=(*one.rows, other_completion(one.rows[0], after.rows[0], length)))
        for one, after in zip(records, following, strict=True)
    ]
