"""The evaluator of what a policy writes by itself: a completion of each prompt, and its rewards."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxgen.data.tasks import Task
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import DataError
from jaxgen.evaluation.base import EvaluationContext, Row
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.models.base import language_model
from jaxgen.posttraining.prompts import Prompts
from jaxgen.posttraining.rewards import Reward, score
from jaxgen.posttraining.sampled_groups import sample_groups


@dataclasses.dataclass(frozen=True)
class RewardedCompletions:
    """Samples a completion of held-out prompts, the same ones for every run, and scores it.

    A report compares runs prompt by prompt by these rows (win rates).

    Attributes:
      tasks: whose prompts are asked, in equal shares; as tokens of the run's own codec.
      reward: scores completions; the parts of a sum are columns of their own.
      num_prompts: how many.
      max_tokens: of a completion.
      policy: how tokens are chosen, with a temperature above 0.
      name: the name in tables.
    """

    tasks: tuple[Task, ...]
    reward: Reward
    num_prompts: PositiveInt = 200
    max_tokens: PositiveInt = 64
    policy: SamplingPolicy = SamplingPolicy()
    name: str = "completions"

    def __post_init__(self):
        check_domains(self, "rewarded_completions")

    def check(self, context: EvaluationContext) -> None:
        """Raises JaxgenError if a prompt has no room, or cannot be read."""
        self._prompts(context).at(0, self.num_prompts)

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns a row for each prompt.

        Returns:
          Rows with "instance"; "rewarded_task", the prompt's task; "reward", and "reward/PART" of
          each part of it, where there is a score; "said", the completion; and "cut", 1 where it has
          no end.
        """
        codec, size = context.data.codec, context.batch_size
        prompts, rows = self._prompts(context), []
        key = jax.random.key(context.seed)
        for first in range(0, self.num_prompts, size):
            asked = prompts.at(first, size)  # Those beyond the last are left out below.
            found = sample_groups(
                language_model(model), codec, [one.ids for one in asked], 1,
                jax.random.fold_in(key, first), self.policy, self.max_tokens, context.length,
            )  # fmt: skip
            texts = [group[0] for group in found.texts]
            scored = score(self.reward, [one.record for one in asked], texts)
            for place in range(min(size, self.num_prompts - first)):
                columns = {
                    "reward" if name == self.reward.name else f"reward/{name}": float(values[place])
                    for name, values in scored.parts.items()
                    if np.isfinite(values[place])
                }
                rows.append(
                    {
                        "instance": str(first + place),
                        "rewarded_task": self.tasks[asked[place].task].name,
                        **columns,
                        "said": texts[place],
                        "cut": int(found.is_cut[place, 0]),
                    }
                )
        return rows

    def _prompts(self, context: EvaluationContext) -> Prompts:
        tasks = [task.with_codec(context.data.codec) for task in self.tasks]
        longest = context.length - self.max_tokens
        if longest < 1:
            raise DataError(
                f"rewarded_completions.max_tokens={self.max_tokens} leaves no room for a prompt in "
                f"train.length={context.length}; set fewer."
            )
        return Prompts(tasks, None, context.seed, longest, "heldout")
