"""What training a configuration needs, checked and built before anything is compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxgen.errors import ConfigError
from jaxgen.models.base import ModelConfig, check_model_fits
from jaxgen.objectives.base import Objective, adds_over_microbatches
from jaxgen.objectives.next_token import NextToken
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.durations import parse_duration
from jaxgen.training.loading import check_batch_fits
from jaxgen.training.optimizers.parametrized import build_optimizer
from jaxgen.training.state import TrainState, initial_state
from jaxgen.training.step import StepMetrics, make_train_step


@dataclasses.dataclass(frozen=True)
class Program:
    """A model, how it is trained and where; nothing is on the devices yet."""

    model: ModelConfig
    train: TrainConfig
    mesh: jax.sharding.Mesh
    layout: Layout
    objective: Objective
    total_steps: int
    schedule: Callable[[int], Any]
    optimizer: Any

    def fresh_state(self) -> TrainState:
        """The state before the first step, made in its layout."""
        with jax.set_mesh(self.mesh):
            return jax.jit(self._initial_state)()

    def abstract_state(self) -> TrainState:
        """The state's shapes, types and layouts on the mesh's devices."""

        def on_devices(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            # Counters that optax makes have no layout of their own: they are whole everywhere.
            spec = jax.P() if leaf.sharding is None else leaf.sharding.spec
            sharding = jax.NamedSharding(self.mesh, spec)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        with jax.set_mesh(self.mesh):
            return jax.tree.map(on_devices, jax.eval_shape(self._initial_state))

    def train_step(
        self, accumulation: int = 1
    ) -> Callable[[TrainState, Any], tuple[TrainState, StepMetrics]]:
        """Returns the jitted step over so many microbatches; see `make_train_step`."""
        return make_train_step(
            self.objective,
            self.optimizer,
            self.train.clip_norm,
            accumulation,
            self.train.seed,
            self.train.noise_scale,
        )

    def _initial_state(self) -> TrainState:
        return initial_state(self.model, self.optimizer, self.layout, self.train.seed)


def layout_of(model: ModelConfig, rules: Rules) -> Layout:
    """Returns the layout that a model of this configuration is built with."""
    return Layout(rules, getattr(model, "remat", "none"), getattr(model, "scan_unroll", 1))


def build_program(
    model: ModelConfig,
    train: TrainConfig,
    mesh: jax.sharding.Mesh,
    rules: Rules,
    objective: Objective | None = None,
) -> Program:
    """Checks that the pieces fit and derives what follows from them.

    Args:
      model: what is trained.
      train: how.
      mesh: where.
      rules: which logical axis is split over which mesh axis.
      objective: what is minimised; next-token prediction by default.

    Raises:
      ShardingError: if the mesh does not divide a parameter or the batch.
      ConfigError: if the model cannot hold rows of this length, if its parametrisation has no rule
        for the optimiser, or if the objective does not add over microbatches and there are several.
    """
    objective = NextToken() if objective is None else objective
    if train.accumulation > 1 and not adds_over_microbatches(objective):
        raise ConfigError(
            f"train.accumulation={train.accumulation} works through a batch in microbatches, and "
            f"the loss of {type(objective).__name__} is not a sum over them; set it to 1."
        )
    layout = layout_of(model, rules)
    check_model_fits(model, layout, mesh)
    for stage in train.batch_sizes.stages:
        micro = min(stage.batch_size, train.micro_batch_size)
        check_batch_fits(micro, train.length, mesh, rules)
    model.batch_spec(
        batch_size=train.batch_size, length=train.length, source_length=train.source_length
    )
    active = model.count().active
    total_steps = train.total_steps(active)

    def steps(duration: int | str) -> int:
        return parse_duration(duration).steps(
            steps_for_tokens=train.steps_for_tokens,
            active_parameters=active,
            total_steps=total_steps,
        )

    schedule = train.schedule.build(total_steps, steps)
    optimizer = build_optimizer(train.optimizer, schedule, model)
    return Program(model, train, mesh, layout, objective, total_steps, schedule, optimizer)
