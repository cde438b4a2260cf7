"""Prompts of tasks in an order of their own: what a place in it has does not depend on the past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from jaxgen.data.epoch_records import EpochRecords
from jaxgen.data.protocols import Record, Split
from jaxgen.data.schedule import RowSchedule, ShareStage
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError
from jaxgen.evaluation.answers import last_answer
from jaxgen.generation.continuing import started_with


class Prompt(NamedTuple):
    """What is asked of a policy.

    Attributes:
      task: the number of its task.
      record: after the preprocessors, for rewards.
      ids: the begin token and the prompt.
      answer: the record's own, without an end token.
    """

    task: int
    record: Record
    ids: np.ndarray
    answer: np.ndarray


class Prompts:
    """The prompts of some tasks by place, in exact shares.

    A prompt is what comes before a record's last answer.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        weights: Mapping[str, float] | None,
        seed: int,
        longest: int,
        split: Split = "train",
    ):
        """Opens the tasks.

        Args:
          tasks: whose features have answers.
          weights: each task's share; None: equal ones.
          seed: of the order.
          longest: the most tokens of a prompt, its begin token among them.
          split: of the sources.

        Raises:
          DataError: if they cannot be read, or have no record.
        """
        self._tasks, self._longest = list(tasks), longest
        self._records = [EpochRecords(task, seed, split, "prompts") for task in tasks]
        shares = [Fraction((weights or {}).get(task.name, 1.0)) for task in tasks]
        self._schedule = RowSchedule([ShareStage(0, tuple(shares))], [None] * len(shares))

    def at(self, start: int, count: int) -> list[Prompt]:
        """Returns the prompts of places `start` to `start + count`.

        Raises:
          DataError: if one is longer than it may be.
        """
        tasks, places = self._schedule.rows(start, start + count)
        found: dict[int, Prompt] = {}
        for number, task in enumerate(self._tasks):
            rows = np.flatnonzero(tasks == number)
            if not len(rows):
                continue
            records = self._records[number].at([int(place) for place in places[rows]])
            for row, record, example in zip(rows, records, task.encode(records), strict=True):
                before, answer = last_answer(example)
                ids = started_with(task.codec, before).astype(np.int32)
                if len(ids) > self._longest:
                    raise DataError(
                        f"task {task.name}: a prompt of {len(ids)} tokens (its begin token among "
                        f"them) leaves no room for rollouts.max_tokens in train.length, which "
                        f"take {self._longest} at most; shorten it, or set a larger train.length."
                    )
                found[int(row)] = Prompt(number, record, ids, answer.astype(np.int32))
        return [found[row] for row in range(count)]

    def seen(self, num_prompts: int) -> dict[str, dict[str, float]]:
        """Returns the shares of the tasks among the first prompts, and how often each was seen."""
        counts = self._schedule.counts(num_prompts)
        shares, epochs, examples = {}, {}, {}
        for task, records, count in zip(self._tasks, self._records, counts, strict=True):
            shares[task.name] = count / max(num_prompts, 1)
            epochs[task.name] = count / records.num_records
            examples[task.name] = min(count, records.num_records)
        return {"shares": shares, "epochs": epochs, "examples": examples}
