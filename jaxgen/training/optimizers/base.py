"""The protocol of an optimizer.

An optimizer is a frozen dataclass of settings with one method. This one is complete:

    @dataclasses.dataclass(frozen=True)
    class SGD:
        momentum: float = 0.9

        def build(self, schedule):
            return optax.sgd(schedule, momentum=self.momentum)

A model with a parametrization (muP, CompleteP) changes rate, decay and epsilon from parameter to
parameter. An optimizer that can follow it has a second method, `build_per_parameter`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import optax
from flax import nnx

from jaxgen.models.parametrization import Multipliers


class Optimizer(Protocol):
    """Settings that build a transformation of gradients into updates."""

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Returns the transformation of a model's gradients into updates to be added to it."""
        ...


@runtime_checkable
class PerParameterOptimizer(Protocol):
    """An optimizer whose settings may be multiplied by other factors for each parameter."""

    def build_per_parameter(
        self, schedule: optax.Schedule, multipliers: Callable[[nnx.Variable], Multipliers]
    ) -> optax.GradientTransformation:
        """Returns the transformation; with multipliers of 1 it is that of `build`."""
        ...
