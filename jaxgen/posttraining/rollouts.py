"""Rollouts: data whose batches are completions that the policy samples, with their rewards.

It goes with the objective `policy_gradient`:

    run.mixture = @rollouts()
    run.objective = @policy_gradient()
    rollouts.tasks = [@addition/task()]
    rollouts.reward = @answer_match()

A rollout samples completions for one or more updates; how many updates old the last of its batches
is, is the one number `max_age`. What is sampled is a function of the step and the state before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, ClassVar

from jaxgen.codecs.codec import Codec
from jaxgen.data.protocols import Source, Split
from jaxgen.data.tasks import Task
from jaxgen.domains import (
    Domain,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    UnitFraction,
    check_domains,
)
from jaxgen.errors import ConfigError, DataError
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.group_batch import GroupBatch, group_batch_spec
from jaxgen.posttraining.advantages import Advantage, GroupRelative
from jaxgen.posttraining.opened_rollouts import OpenedRollouts
from jaxgen.posttraining.rewards import Reward


@dataclasses.dataclass(frozen=True)
class Rollouts:
    """Completions of the prompts of tasks; an implementation of `data.base.DataConfig`.

    A row of a batch is a prompt with its group of completions: `train.batch_size` counts prompts.

    Attributes:
      tasks: whose records have prompts, and what the reward needs.
      reward: scores completions; see `posttraining.rewards`.
      weights: each task's share of the prompts, up to a common factor; None: equal ones.
      group: completions of a prompt.
      policy: how tokens are chosen, with a temperature above 0.
      max_tokens: of a completion, which is cut there; prompts have the rest of `train.length`.
      advantage: makes advantages of rewards.
      kl_penalty: what a nat of distance to the reference costs, at each token; the policy then has
        one.
      max_age: how many updates old completions may be when they are learned from; 0 samples anew
        for each update.
      passes: how often each completion is learned from; it divides `max_age` + 1.
      resampling: how often prompts are replaced whose completions all have one reward, from which
        nothing is learned (DAPO's dynamic sampling, 2503.14476).
      cut_score: the score of a completion that is cut; None: the reward's.
      ignore_cut: whether cut completions are not learned from, and are in no group's mean (DAPO's
        overlong filtering).
      reward_seconds: the time that the reward has for one batch; None: any.
      student_share: the share of rollouts that the policy writes; in the others, at fixed places
        between them, every completion of a prompt is its record's own answer (lambda of GKD,
        2306.13649). Below 1 it is for distillation, and there are no advantages.
      name: in tables and plots.
    """

    tasks: tuple[Task, ...]
    reward: Reward
    weights: dict[str, PositiveFloat] | None = None
    group: PositiveInt = 8
    policy: SamplingPolicy = SamplingPolicy()
    max_tokens: PositiveInt = 64
    advantage: Advantage = GroupRelative()
    kl_penalty: NonNegativeFloat = 0.0
    max_age: NonNegativeInt = 0
    passes: PositiveInt = 1
    resampling: NonNegativeInt = 0
    cut_score: Annotated[float, Domain(-1e6, 1e6)] | None = None
    ignore_cut: bool = False
    reward_seconds: PositiveFloat | None = 600.0
    student_share: UnitFraction = 1.0
    name: str = "rollouts"

    has_heldout_loss: ClassVar[bool] = False

    def __post_init__(self):
        check_domains(self, "rollouts")
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) < len(names):
            raise DataError(f"rollouts.tasks are {names}; give tasks of different names.")
        if without := [task.name for task in self.tasks if not task.has_answers]:
            raise DataError(
                f"rollouts.tasks {without} have no answers, so there is no prompt before one; use "
                "prompt_answer or chat as their features."
            )
        if self.weights is not None and set(self.weights) != set(names):
            raise DataError(
                f"rollouts.weights names {sorted(self.weights)}, tasks are {sorted(names)}; give "
                "each task one weight."
            )
        if self.updates % self.passes:
            raise ConfigError(
                f"rollouts.passes={self.passes} does not divide max_age + 1 = {self.updates} "
                "updates of a rollout; set max_age one below a multiple of passes."
            )
        if not self.policy.temperature or self.policy.guidance != 1 or self.policy.parallel:
            raise ConfigError(
                "rollouts.policy draws token by token: set a temperature above 0, and neither "
                "guidance nor parallel."
            )

        if self.student_share < 1 and (self.kl_penalty or self.resampling):
            raise ConfigError(
                f"rollouts.student_share={self.student_share:g} is for distillation, which rewards "
                "are nothing to: leave out kl_penalty and resampling, or set student_share = 1."
            )

    @property
    def updates(self) -> int:
        """Returns the updates from one rollout to the next."""
        return self.max_age + 1

    @property
    def rows_per_example(self) -> int:
        """Returns the completions of a prompt."""
        return self.group

    @property
    def codec(self) -> Codec:
        """Returns the codec of the first task."""
        return self.tasks[0].codec

    @property
    def task_names(self) -> tuple[str, ...]:
        """Returns the names of the tasks."""
        return tuple(task.name for task in self.tasks)

    @property
    def sources(self) -> dict[str, Source]:
        """Returns the tasks' sources, whose files a run records."""
        return {task.name: task.source for task in self.tasks}

    def with_codec(self, codec: Codec) -> Rollouts:
        """Returns the rollouts with another codec."""
        return dataclasses.replace(self, tasks=tuple(t.with_codec(codec) for t in self.tasks))

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> GroupBatch:
        """Returns a batch of `jax.ShapeDtypeStruct`; see `DataConfig.batch_spec`."""
        del source_length
        spec = group_batch_spec(batch_size, self.group, length)
        if self.student_share < 1:
            return dataclasses.replace(
                spec, task_names=self.task_names, drawn_by=self.policy.filter
            )
        figures = dict.fromkeys(("sampled", "advantages"), spec.completion_weights)
        return dataclasses.replace(
            spec, **figures, task_names=self.task_names, drawn_by=self.policy.filter
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
    ) -> OpenedRollouts:
        """Opens the prompts; see `DataConfig.open`.

        Raises:
          ConfigError: for batches that grow, or an encoder.
          DataError: if prompts cannot be read, or have no room.
        """
        if source_length is not None:
            raise ConfigError("rollouts are of models without an encoder; leave out source_length.")
        far = 10**6
        if rows_before is not None and rows_before(far) != far * batch_size:
            raise ConfigError("rollouts need batches of one size; leave out train.batch_ramp.")
        if self.max_tokens >= length:
            raise DataError(
                f"rollouts.max_tokens={self.max_tokens} leaves no room for a prompt in "
                f"train.length={length}; set a larger length."
            )
        return OpenedRollouts(self, batch_size, length, seed, split)
