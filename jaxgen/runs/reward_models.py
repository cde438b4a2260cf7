"""Rewards by the head of another run: what a reward model says of completions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import jax
import numpy as np

from jaxgen.data.comparison_fields import Compared
from jaxgen.data.comparison_rows import ROWS, ToRows, row_arrays
from jaxgen.data.comparisons import Comparisons
from jaxgen.data.preprocessors import need
from jaxgen.data.protocols import Context, Record
from jaxgen.domains import Domain, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.evaluation.preferences import in_parts
from jaxgen.group_batch import GroupBatch
from jaxgen.objectives.reward import completion_rewards
from jaxgen.runs.restoring import Restored, restore


@dataclasses.dataclass(frozen=True)
class RunReward:
    """The reward of a run of `reward_loss`, read at the last token of each completion.

    Prompt and completion become tokens as in the run's own comparisons. An empty completion has no
    score.

    Attributes:
      run_dir: the run's directory.
      prompt: the field of a record with the prompt, a text or messages.
      step: the checkpoint's; None: the newest.
      offset: taken from each reward, such as the mean over demonstrations, so that those have 0
        (InstructGPT, 2203.02155, 3.5).
      batch_size: completions at a time; the mesh must divide it.
      name: of the reward.
    """

    run_dir: str
    prompt: str = "prompt"
    step: PositiveInt | None = None
    offset: Annotated[float, Domain(-1e6, 1e6)] = 0.0
    batch_size: PositiveInt = 64
    name: str = "run_reward"

    in_thread: ClassVar[bool] = False

    def __post_init__(self):
        check_domains(self, "run_reward")

    @property
    def run_dirs(self) -> tuple[str, ...]:
        """Returns the runs that must have finished before."""
        return (self.run_dir,)

    def __call__(self, records: Sequence[Record], completions: Sequence[str]) -> list[float]:
        """Returns the rewards; call under `jax.set_mesh`.

        Raises:
          CheckpointError: if there is no such run.
          ConfigError: if it is no reward model.
          DataError: if a record has no prompt.
        """
        found = np.full(len(completions), np.nan)
        places = [place for place, text in enumerate(completions) if text.strip()]
        if places:
            rows = [self._row(records[place], completions[place]) for place in places]
            found[places] = self._rewards(rows) - self.offset
        return found.tolist()

    @functools.cached_property
    def _restored(self) -> Restored:
        restored = restore(self.run_dir, jax.sharding.get_mesh(), self.step)
        if getattr(restored.model, "head", None) is None:
            raise ConfigError(
                f"run_reward.run_dir={self.run_dir!r} is a run of "
                f"{type(restored.config.model).__name__} without a head; name a run of a reward "
                "model (policy.head = True, run.objective = @reward_loss())."
            )
        if not isinstance(restored.config.mixture, Comparisons):
            raise ConfigError(
                f"run_reward.run_dir={self.run_dir!r} was not trained on @comparisons(), which say "
                "how a prompt and its completion are read."
            )
        return restored

    @functools.cached_property
    def _to_rows(self) -> ToRows:
        config = self._restored.config
        data: Any = config.mixture
        layout: Any = _OneCompletion()
        return ToRows(layout, data.chat, data.codec, config.train.length, "cut", "error")

    def _row(self, record: Record, completion: str) -> dict[str, Any]:
        asked = {"prompt": need(record, self.prompt, "run_reward"), "completion": completion}
        (found,) = self._to_rows.apply(iter([asked]), Context(lambda: iter(())))
        config = self._restored.config
        pad_id = config.mixture.codec.pad_id
        (row,) = found[ROWS].rows
        arrays = row_arrays(row, config.train.length, pad_id)
        return arrays | {"lengths": np.int32(len(row.tokens))}

    def _rewards(self, rows: Sequence[dict[str, Any]]) -> np.ndarray:
        arrays: dict[str, Any] = {
            name: np.stack([row[name] for row in rows])[:, None] for name in rows[0]
        }
        batch = GroupBatch(**arrays, scores=np.zeros((len(rows), 1), np.float32))
        return in_parts(_completion_rewards, self._restored.model, batch, self.batch_size)[:, 0]


@dataclasses.dataclass(frozen=True)
class _OneCompletion:
    """The layout of a prompt with one completion."""

    group: ClassVar[int] = 1

    def compared(self, record: Record) -> Compared:
        """Returns the completion by itself."""
        return Compared(record["prompt"], (record["completion"],), (0.0,))


@jax.jit
def _completion_rewards(model: Any, batch: GroupBatch) -> jax.Array:
    return completion_rewards(model, batch)[0]
