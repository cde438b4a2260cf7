"""The settings of an evaluation: its tasks, their scoring, and its size."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from jaxgen.data.instructions import tasks_of_families
from jaxgen.data.tasks import Task
from jaxgen.domains import Domain, PositiveInt, ProperFraction, Seed, check_domains
from jaxgen.errors import ConfigError
from jaxgen.evaluation.answers import Answers
from jaxgen.evaluation.base import Evaluator, Scoring
from jaxgen.evaluation.generations import Generation

ANSWERED = Generation()


@dataclasses.dataclass(frozen=True)
class EvaluationTask:
    """A task of a suite: prompts by its preprocessors, such as few-shot ones, and their scoring.

    Attributes:
      task: the task whose held-out instances are scored, as tokens of the run's own codec.
      scoring: the way to score them; see `evaluation.base` for your own.
      num_examples: instances; None: as many as of other tasks.
      chance: exact matches that guessing gets; None: as the scoring or the source has it.
    """

    task: Task
    scoring: Scoring = Answers()
    num_examples: PositiveInt | None = None
    chance: ProperFraction | None = None

    def __post_init__(self):
        check_domains(self, "evaluation_task")
        if not self.task.has_answers:
            raise ConfigError(
                f"the task {self.task.name} of a suite has no answers to score; give it "
                "task.features = @prompt_answer()."
            )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """The settings of a run's evaluation.

    Attributes:
      num_examples: held-out instances of each task that has answers.
      num_batches: held-out batches, of the training shape, for the loss of each task; more than 8
        are at most those that read its held-out data once.
      batch_size: rows scored at a time.
      seed: of the choice of instances and batches, equal for all runs that are compared.
      at_checkpoints: whether to score at every checkpoint, or only at the end.
      suite: tasks to score beside those of the mixture.
      length: the most tokens of an instance; None: what the model is made to read,
        model.max_length, or train.length.
      flag_contamination: whether all training texts are searched for instances; rows are then
        marked, and the summary has exact matches without those found.
      evaluators: evaluators of your own; see `evaluation.base`.
      ema: whether to score the averages of the parameters (train.ema_decay), not the last ones.
    """

    num_examples: PositiveInt = 256
    num_batches: Annotated[int, Domain(1, 10**6)] = 8
    batch_size: Annotated[int, Domain(1, 2**16)] = 64
    seed: Seed = 0
    at_checkpoints: bool = False
    suite: tuple[EvaluationTask, ...] = ()
    length: PositiveInt | None = None
    flag_contamination: bool = False
    evaluators: tuple[Evaluator, ...] = ()
    ema: bool = False

    def __post_init__(self):
        check_domains(self, "evaluation")
        names = [one.task.name for one in self.suite] + [one.name for one in self.evaluators]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(
                f"evaluation.suite and .evaluators have {twice} more than once; give each its own "
                "name."
            )


def zero_shot_suite(
    tasks: tuple[Task, ...], held_out: tuple[str, ...], scoring: Scoring = ANSWERED
) -> tuple[EvaluationTask, ...]:
    """Returns the suite of the families that a mixture of instructions leaves out.

    Args:
      tasks: those of the mixture before it leaves any out.
      held_out: names of families.
      scoring: of each; by default what the model writes in one line, compared with the answer.
    """
    return tuple(EvaluationTask(task, scoring) for task in tasks_of_families(tasks, held_out))
