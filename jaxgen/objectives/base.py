"""The protocol of what is minimised: a model and a batch to a loss with named sums.

An objective is any callable with this signature; a frozen dataclass can be bound in gin:

    @dataclasses.dataclass(frozen=True)
    class SquaredError:
        def __call__(self, model, batch, key):
            error = jnp.sum(jnp.square(model(batch["x"]) - batch["y"]))
            rows = jnp.float32(batch["x"].shape[0])
            return Loss(error, rows, {"squared_error": Sum(error, rows)})

Everything in a `Loss` is a sum that adds over microbatches, devices and hosts; means are taken
last, where a row of metrics.jsonl is written.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sum:
    """A metric as a sum and the weight that it is divided by when it is reported.

    Attributes:
      total: float32, a scalar or an array; with labels, [labels].
      weight: float32, a scalar, or like `total`. Entries with a weight each are reported as one
        mean, those that share one as a list.
      labels: what the entries belong to, such as the names of tasks; each is reported as
        NAME/LABEL, and the one mean, where there is one, as NAME.
    """

    total: Any
    weight: Any
    labels: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loss:
    """A sum to differentiate and the sums that are reported.

    Attributes:
      total: scalar float32, which is differentiated; total / weight is the loss of a batch.
      weight: scalar float32, such as the sum of the loss weights.
      metrics: what rows report, by name.
    """

    total: Any
    weight: Any
    metrics: dict[str, Sum]


@runtime_checkable
class Objective(Protocol):
    """Returns the loss of a model on a batch.

    An objective whose loss is not a sum over examples, such as a contrastive one, has an attribute
    `adds_over_microbatches = False`; gradient accumulation is then refused. One that changes in the
    course of training has a method `at_step(step)`, which returns the objective of a step. One
    whose loss is not in nats a token has an attribute `loss_unit`, such as "nats/pair".
    """

    def __call__(self, model: Any, batch: Any, key: jax.Array | None) -> Loss:
        """Returns the loss; `key` is that of a training pass (dropout), None in evaluation."""
        ...


def at_step(objective: Objective, step: jax.Array) -> Objective:
    """Returns the objective as it is at a step, counted from 0."""
    of_step = getattr(objective, "at_step", None)
    return objective if of_step is None else of_step(step)


def adds_over_microbatches(objective: Objective) -> bool:
    """Returns whether the loss of a batch is the sum of the losses of its microbatches."""
    return getattr(objective, "adds_over_microbatches", True)
