"""Rows that a teacher reads after a prompt and its student without it (2112.00861, 4.2)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxgen.batch import Batch, token_batch_spec
from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import begin_ids
from jaxgen.data.base import Data, DataConfig, HostRows
from jaxgen.data.protocols import Split
from jaxgen.data.tasks import sources_of
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import DataError
from jaxgen.taught_batch import TaughtBatch

logger = logging.getLogger(__name__)
PLAIN = ("tokens", "targets", "loss_weights", "positions", "segment_ids", "task_ids")
BLOCKS = "block_ids"


@dataclasses.dataclass(frozen=True)
class PromptedMixture:
    """A mixture of text whose every segment a teacher reads after a prompt: context distillation.

    The student is trained, by `@distillation_loss()`, to go on without the prompt as the teacher
    does with it. Nothing is scored but the held-out loss: name what is to be scored in
    `evaluation.suite`.

    Attributes:
      mixture: the rows, of text.
      prompt: what the teacher reads first; a codec's control tokens are not among it.
      teacher_length: tokens of the teacher's rows, in which every segment follows the prompt; None:
        twice those of the student's. Segments that have no room left are not learned from.
    """

    mixture: DataConfig
    prompt: str
    teacher_length: PositiveInt | None = None

    def __post_init__(self):
        check_domains(self, "prompted_mixture")
        if not self.prompt:
            raise DataError("prompted_mixture.prompt is empty; without one use the mixture itself.")

    @property
    def name(self) -> str:
        """The mixture's."""
        return self.mixture.name

    @property
    def codec(self) -> Codec:
        """The mixture's."""
        return self.mixture.codec

    @property
    def task_names(self) -> tuple[str, ...]:
        """The mixture's."""
        return self.mixture.task_names

    @property
    def sources(self) -> dict[str, Any]:
        """The mixture's, whose files a run records."""
        return sources_of(self.mixture)

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> TaughtBatch:
        """Returns a batch of `jax.ShapeDtypeStruct`; see `DataConfig.batch_spec`."""
        student = self.mixture.batch_spec(
            batch_size=batch_size, length=length, source_length=source_length
        )
        self._check(student)
        teacher = token_batch_spec(batch_size, self._teacher_length(length))
        blocks = None if student.block_ids is None else teacher.tokens
        teacher = dataclasses.replace(teacher, block_ids=blocks, task_names=student.task_names)
        return TaughtBatch(student, teacher, student.tokens)

    def open(
        self,
        *,
        batch_size: int,
        length: int,
        seed: int,
        split: Split = "train",
        source_length: int | None = None,
        rows_before: Callable[[int], int] | None = None,
    ) -> PromptedData:
        """Opens the data; see `DataConfig.open`.

        Raises:
          DataError: if a teacher's row has no room for the prompt before a student's row.
        """
        prompt = np.asarray(self.codec.encode_batch([self.prompt])[0], np.int32)
        teacher_length = self._teacher_length(length)
        if teacher_length < length + len(prompt):
            raise DataError(
                f"prompted_mixture.prompt has {len(prompt)} tokens, and a teacher's row of "
                f"{teacher_length} has no room for it before one of train.length={length}; set "
                f"prompted_mixture.teacher_length={length + 2 * len(prompt)} or more."
            )
        data = self.mixture.open(
            batch_size=batch_size, length=length, seed=seed, split=split,
            source_length=source_length, rows_before=rows_before,
        )  # fmt: skip
        begin = begin_ids(self.codec)
        return PromptedData(data, prompt, begin, self.codec.pad_id, teacher_length, self._check)

    def _teacher_length(self, length: int) -> int:
        return 2 * length if self.teacher_length is None else self.teacher_length

    def _check(self, batch: Batch) -> None:
        more = [
            field.name
            for field in dataclasses.fields(batch)
            if field.name not in (*PLAIN, BLOCKS) and jax.tree.leaves(getattr(batch, field.name))
            and not field.metadata.get("static")
        ]  # fmt: skip
        if more:
            raise DataError(
                f"prompted_mixture.mixture has rows with {', '.join(more)}, and a prompt is put "
                "before rows of text alone; leave out media, denoisings and sources."
            )


class PromptedData:
    """The batches of a mixture, with the teacher's rows; see `data.base.Data`."""

    def __init__(
        self,
        data: Data,
        prompt: np.ndarray,
        begin: tuple[int, ...],
        pad: int,
        teacher_length: int,
        check: Callable[[Batch], None],
    ):
        self._data, self._prompt, self._begin, self._pad = data, prompt, begin, pad
        self._teacher_length, self._check = teacher_length, check
        self._has_told = False

    @property
    def task_names(self) -> tuple[str, ...]:
        """The mixture's."""
        return self._data.task_names

    def batch(self, step: int, state: Any = None, rows: HostRows | None = None) -> TaughtBatch:
        """Returns the batch of a step."""
        return self._taught(self._data.batch(step, state, rows))

    def iterate(
        self, first_step: int = 0, *, rows: HostRows | None = None, num_workers: int = 0
    ) -> Iterator[TaughtBatch]:
        """Yields the batches of `first_step` and of the steps after it."""
        for batch in self._data.iterate(first_step, rows=rows, num_workers=num_workers):
            yield self._taught(batch)

    def check_lasts(self, num_rows: int) -> None:
        """Raises DataError if the data ends before this many rows."""
        self._data.check_lasts(num_rows)

    def seen(self, num_rows: int) -> dict[str, Any]:
        """Returns what run.json records of the first rows."""
        return self._data.seen(num_rows)

    def _taught(self, batch: Batch) -> TaughtBatch:
        self._check(batch)
        weights = np.array(batch.loss_weights)
        shape = (len(weights), self._teacher_length)
        names = PLAIN if batch.block_ids is None else (*PLAIN, BLOCKS)
        teacher: dict[str, Any] = {name: np.zeros(shape, np.int32) for name in names}
        teacher["tokens"] += self._pad
        teacher["loss_weights"] = np.zeros(shape, np.float32)
        places = np.zeros(weights.shape, np.int32)
        left_out = 0
        for row in range(len(weights)):
            columns = {name: array[row] for name, array in teacher.items()}
            left_out += self._fill(batch, row, columns, places[row], weights[row])
        if left_out and not self._has_told:
            self._has_told = True
            logger.warning(
                "%d segments of a batch of %d rows have no room behind the prompt in the teacher's "
                "rows of %d tokens, and are left out; raise prompted_mixture.teacher_length.",
                left_out, *shape,
            )  # fmt: skip
        student = dataclasses.replace(batch, loss_weights=weights)
        return TaughtBatch(student, Batch(**teacher, task_names=batch.task_names), places)

    def _fill(self, batch: Batch, row: int, columns: dict, places: Any, weights: Any) -> int:
        """Fills the teacher's row for one of the student's; returns the segments left out."""
        tokens, segments = np.asarray(batch.tokens[row]), np.asarray(batch.segment_ids[row])
        starts = np.flatnonzero(np.diff(segments, prepend=0) != 0)
        end, left_out = 0, 0
        for start, stop in zip(starts, [*starts[1:], len(segments)], strict=True):
            if segments[start] == 0:
                continue
            size = stop - start + len(self._prompt)
            if end + size > self._teacher_length:
                weights[start:stop] = 0
                left_out += 1
                continue
            # Begin tokens stay first, and what they predict is predicted by the prompt's last.
            own, begins = tokens[start:stop], len(self._begin)
            begins *= tuple(own[:begins]) == self._begin
            columns["tokens"][end : end + size] = [*own[:begins], *self._prompt, *own[begins:]]
            columns["positions"][end : end + size] = np.arange(size)
            columns["segment_ids"][end : end + size] = segments[start]
            columns["task_ids"][end : end + size] = batch.task_ids[row, start]
            if batch.block_ids is not None:
                blocks = np.asarray(batch.block_ids[row, start:stop])
                before, after = blocks[:begins], len(self._prompt) + blocks[begins:]
                columns[BLOCKS][end : end + size] = np.concatenate(
                    [before, begins + np.arange(len(self._prompt)), after]
                )
            places[start:stop] = np.arange(end + len(self._prompt), end + size)
            end += size
        return left_out
