"""The scorers of the package reasoning-gym as a reward."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from jaxgen.data.installed.reasoning import gym
from jaxgen.data.preprocessors import need
from jaxgen.data.protocols import Record
from jaxgen.posttraining.verifiers import last_part


@dataclasses.dataclass(frozen=True)
class ReasoningGymScore:
    """What the generator of a puzzle says of an answer, from 0 to 1.

    Some scorers parse what a model wrote, and may take long; `Guarded` ends them.

    Attributes:
      after: a text; only what follows its last occurrence is the answer, and a completion without
        it scores 0. "" takes all.
      name: of the reward.
    """

    after: str = ""
    name: str = "reasoning_gym"

    def __call__(self, records: Sequence[Record], completions: Sequence[str]) -> list[float]:
        """Returns the score of each completion of a `ReasoningGym` record."""
        return [self._one(*pair) for pair in zip(records, completions, strict=True)]

    def _one(self, record: Record, completion: str) -> float:
        dataset, entry = (need(record, name, self.name) for name in ("dataset", "entry"))
        answer = last_part(completion, self.after)
        return 0.0 if answer is None else float(_scorer(dataset)(answer.strip(), entry))


@functools.cache
def _scorer(dataset: str) -> Any:
    return gym().factory.get_score_answer_fn(dataset)
