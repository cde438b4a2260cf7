"""The protocol of an evaluator: a model and a context to rows, one an instance.

The held-out losses and the suite of tasks need no evaluator. One's own is a frozen dataclass with a
name and this call; it is bound in gin as one of `evaluation.evaluators`:

    @dataclasses.dataclass(frozen=True)
    class ParameterNorm:
        name: str = "parameter_norm"

        def __call__(self, model, context):
            norms = [jnp.linalg.norm(leaf) for leaf in jax.tree.leaves(model)]
            return [{"instance": i, "norm": float(norm)} for i, norm in enumerate(norms)]
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

from jaxgen.data.base import DataConfig
from jaxgen.objectives.base import Objective

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class EvaluationContext:
    """The parts of a run that an evaluator may use.

    Attributes:
      data: opens the held-out split.
      objective: the run's.
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

    Attributes:
      name: the task that its rows are filed under.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns one row an instance, with "instance" and any metrics; under `jax.set_mesh`."""
        ...
