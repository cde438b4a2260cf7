"""The protocols of evaluation: ways to score a task's instances, and evaluators of other kinds.

An evaluator maps a model and a context to rows, one for each instance. The held-out losses and the
suite of tasks need none. Your own is a frozen dataclass with a name and this call, which is bound
in gin as one of `evaluation.evaluators`:

    @dataclasses.dataclass(frozen=True)
    class ParameterNorm:
        name: str = "parameter_norm"

        def __call__(self, model, context):
            norms = [jnp.linalg.norm(leaf) for leaf in jax.tree.leaves(model)]
            return [{"instance": i, "norm": float(norm)} for i, norm in enumerate(norms)]

A scoring is bound as `evaluation_task.scoring`; it may use another's rows, as this one does:

    @dataclasses.dataclass(frozen=True)
    class Surprise:
        METRICS = ("surprise",)

        def score(self, scorer, task, records):
            rows = Answers().score(scorer, task, records)
            return [row | {"surprise": -row["log_probability"]} for row in rows]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxgen.data.base import DataConfig
from jaxgen.data.protocols import Record
from jaxgen.data.tasks import Task
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.objectives.base import Objective

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class EvaluationContext:
    """The parts of a run that an evaluator may use.

    Attributes:
      data: opens the held-out split.
      objective: the run's objective.
      seed: seed of whatever is drawn, equal for all runs that are compared.
      batch_size: rows at a time.
      length: tokens of a row.
      source_length: tokens of the encoder's row, or None.
    """

    data: DataConfig
    objective: Objective
    seed: int
    batch_size: int
    length: int
    source_length: int | None = None


@runtime_checkable
class Evaluator(Protocol):
    """Scores a model. Every number of its rows is summarised by its mean and an interval.

    It may have a method `check(context)`, which raises what would stop it before anything is
    trained.

    Attributes:
      name: the task that its rows are filed under.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns one row for each instance, with "instance" and any metrics; under a mesh."""
        ...


@runtime_checkable
class Scoring(Protocol):
    """Scores the instances of a task.

    It may have a method `check(task, examples, shape)`, which raises what would stop `score` before
    anything is trained: `examples` are the instances' tokens, `shape` that of the rows.

    It may have `RATIOS`, by name two columns of its rows whose sums are divided, such as errors and
    words.

    Attributes:
      METRICS: the metrics of its rows whose means and intervals are reported.
    """

    METRICS: ClassVar[tuple[str, ...]]

    def score(self, scorer: Scorer, task: Task, records: Sequence[Record]) -> list[Row]:
        """Returns a row for each record: "task", "instance", metrics; under `jax.set_mesh`."""
        ...
