"""Rollouts with rows of a mixture beside them, for policy gradients mixed with pre-training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from jaxgen.codecs.codec import Codec
from jaxgen.data.base import HostRows
from jaxgen.data.mixtures import Mixture
from jaxgen.data.protocols import Source, Split
from jaxgen.data.tasks import sources_of
from jaxgen.errors import ConfigError
from jaxgen.group_batch import GroupsAndText
from jaxgen.posttraining.opened_rollouts import OpenedRollouts
from jaxgen.posttraining.rollouts import Rollouts


@dataclasses.dataclass(frozen=True)
class RolloutsAndText:
    """Completions of prompts, and as many packed rows of a mixture as there are prompts.

    An implementation of `data.base.DataConfig`, for the objective `with_text_loss`.

    Attributes:
      rollouts: the completions.
      text: the mixture, of the same codec, such as what the policy was pre-trained on.
      name: in tables and plots.
    """

    rollouts: Rollouts
    text: Mixture
    name: str = "rollouts_and_text"

    has_heldout_loss: ClassVar[bool] = False

    def __post_init__(self):
        if self.text.codec != self.rollouts.codec:
            raise ConfigError("rollouts_and_text has text of another codec; give both the same.")

    @property
    def rows_per_example(self) -> int:
        """Returns the completions of a prompt, and its row of text."""
        return self.rollouts.rows_per_example + 1

    @property
    def codec(self) -> Codec:
        """Returns the codec of both."""
        return self.rollouts.codec

    @property
    def task_names(self) -> tuple[str, ...]:
        """Returns the names of the tasks of rollouts."""
        return self.rollouts.task_names

    @property
    def sources(self) -> dict[str, Source]:
        """Returns the sources of both."""
        return sources_of(self.text) | self.rollouts.sources

    def with_codec(self, codec: Codec) -> RolloutsAndText:
        """Returns the data with another codec."""
        text = dataclasses.replace(
            self.text, tasks=tuple(task.with_codec(codec) for task in self.text.tasks)
        )
        return dataclasses.replace(self, rollouts=self.rollouts.with_codec(codec), text=text)

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> GroupsAndText:
        """Returns a batch of `jax.ShapeDtypeStruct`; see `DataConfig.batch_spec`."""
        sizes: dict[str, Any] = {"batch_size": batch_size, "length": length}
        sizes["source_length"] = source_length
        return GroupsAndText(self.rollouts.batch_spec(**sizes), self.text.batch_spec(**sizes))

    def open(
        self,
        *,
        batch_size: int,
        length: int,
        seed: int,
        split: Split = "train",
        source_length: int | None = None,
        rows_before: Callable[[int], int] | None = None,
    ) -> OpenedRolloutsAndText:
        """Opens both; see `DataConfig.open`.

        Raises:
          ConfigError: as `Rollouts.open`.
          DataError: if either cannot be read.
        """
        options: dict[str, Any] = {
            "batch_size": batch_size, "length": length, "seed": seed, "split": split,
            "source_length": source_length, "rows_before": rows_before,
        }  # fmt: skip
        return OpenedRolloutsAndText(self.rollouts.open(**options), self.text.open(**options))


class OpenedRolloutsAndText:
    """The batches of both by step; see `data.base.Data`."""

    samples_from_state = True

    def __init__(self, rollouts: OpenedRollouts, text: Any):
        self._rollouts, self._text = rollouts, text
        self.task_names = rollouts.task_names

    def batch(self, step: int, state: Any = None, rows: HostRows | None = None) -> GroupsAndText:
        """Returns the batch of a step; see `OpenedRollouts.batch`."""
        return GroupsAndText(
            self._rollouts.batch(step, state, rows), self._text.batch(step, None, rows)
        )

    def iterate(
        self, first_step: int = 0, *, rows: HostRows | None = None, num_workers: int = 0
    ) -> Iterator[GroupsAndText]:
        """Raises ConfigError, as rollouts do."""
        raise ConfigError("rollouts are sampled from the state before each step, not read ahead.")

    def to_record(self, step: int) -> dict[str, Any]:
        """Returns the record of the rollouts."""
        return self._rollouts.to_record(step)

    def go_on_from(self, record: dict[str, Any]) -> None:
        """Takes rollouts back from a record."""
        self._rollouts.go_on_from(record)

    def check_lasts(self, num_rows: int) -> None:
        """Raises DataError if the text ends before so many rows."""
        self._text.check_lasts(num_rows)

    def seen(self, num_rows: int) -> dict[str, Any]:
        """Returns the shares of the prompts' tasks."""
        return self._rollouts.seen(num_rows)
