"""The program of a run: all that training needs, checked before anything is compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.base import ModelConfig, check_model_fits
from jaxgen.objectives.base import Objective, adds_over_microbatches
from jaxgen.objectives.next_token import NextToken
from jaxgen.sharding.layout import Layout
from jaxgen.training.config import TrainConfig
from jaxgen.training.durations import DurationLike, parse_duration
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.freezing import check_freeze, with_frozen
from jaxgen.training.loading import check_batch_fits
from jaxgen.training.offloading import abstract_on_host, check_host_memory, kept_on_host
from jaxgen.training.optimizers.parametrized import build_optimizer
from jaxgen.training.state import TrainState, state_with
from jaxgen.training.step import StepMetrics, make_train_step


@dataclasses.dataclass(frozen=True)
class Program:
    """A model, how it is trained and executed; nothing is on the devices yet.

    Attributes:
      rows_per_example: rows of tokens that the model reads for each row of the batch size.
      microbatch_size: rows that are worked through at once, on all devices together.
      log_every: steps between rows of metrics.jsonl.
      checkpoint_every: steps between checkpoints.
      keep_every: steps between checkpoints that are kept for good; 0: none is.
      heldout_every: steps between held-out losses; 0: only at the end.
      compare_replicas_every: steps between comparisons of what devices hold in common; 0: none.
      repeat_step_every: steps between those that are taken twice; 0: none is.
    """

    model: ModelConfig
    train: TrainConfig
    execution: ExecutionConfig
    mesh: jax.sharding.Mesh
    objective: Objective
    total_steps: int
    rows_per_example: int
    microbatch_size: int
    log_every: int
    checkpoint_every: int
    keep_every: int
    heldout_every: int
    compare_replicas_every: int
    repeat_step_every: int
    schedule: Callable[[int], Any]
    optimizer: Any

    @property
    def layout(self) -> Layout:
        """The layout that the model is built with."""
        return self.execution.layout

    def tokens_before(self, step: int) -> int:
        """Positions of all rows before a step, counted from 0, padding included."""
        return self.train.tokens_before(step, self.rows_per_example)

    def accumulation_at(self, step: int) -> int:
        """Returns the microbatches of a step, counted from 0."""
        return max(1, self.train.batch_sizes.at(step) // self.microbatch_size)

    def saves_at(self, step: int) -> bool:
        """Returns whether there is a checkpoint after so many steps, whatever else asks for one."""
        if step == self.total_steps or step % self.checkpoint_every == 0:
            return True
        return self.keep_every > 0 and step % self.keep_every == 0

    def fresh_state(self) -> TrainState:
        """Returns the state before the first step, made in its layout."""
        with jax.set_mesh(self.mesh):
            return jax.jit(self._initial_state)()

    def state_with(self, model: Any) -> TrainState:
        """Returns the state before the first step, of parameters that are there."""
        model = with_frozen(model, self.train.freeze)
        return state_with(model, self.optimizer, self.train.ema_decay is not None)

    def abstract_state(self) -> TrainState:
        """Returns the state's shapes, types and layouts on the mesh's devices."""
        state = self.shapes_of(self._initial_state)
        if not self.execution.offload_optimizer:
            return state
        return dataclasses.replace(state, optimizer_state=abstract_on_host(state.optimizer_state))

    def abstract_state_without_optimizer(self) -> TrainState:
        """Returns `abstract_state` for reading a model alone: of the optimizer nothing is read."""
        has_ema = self.train.ema_decay is not None
        return self.shapes_of(lambda: state_with(self._fresh_model(), None, has_ema))

    def fresh_model(self) -> Any:
        """Returns the parameters before the first step, made in their layout."""
        with jax.set_mesh(self.mesh):
            return jax.jit(self._fresh_model)()

    def shapes_of(self, function: Callable[[], Any]) -> Any:
        """Returns the shapes, types and layouts of what a function makes on the mesh's devices."""

        def on_devices(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            # Counters that optax makes have no layout of their own: they are whole everywhere.
            spec = jax.P() if leaf.sharding is None else leaf.sharding.spec
            sharding = jax.NamedSharding(self.mesh, spec)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        with jax.set_mesh(self.mesh):
            return jax.tree.map(on_devices, jax.eval_shape(function))

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
            self.execution.noise_scale,
            self.train.ema_decay,
            self.train.divergence is not None,
        )

    def _initial_state(self) -> TrainState:
        return self.state_with(self._fresh_model())

    def _fresh_model(self) -> Any:
        model = self.model.build(nnx.Rngs(params=self.train.seed), self.layout)
        return with_frozen(model, self.train.freeze)


def build_program(
    model: ModelConfig,
    train: TrainConfig,
    mesh: jax.sharding.Mesh,
    execution: ExecutionConfig | None = None,
    objective: Objective | None = None,
    trains: bool = True,
    rows_per_example: int = 1,
) -> Program:
    """Checks that the pieces fit and derives what follows from them.

    Args:
      model: what is trained.
      train: how.
      mesh: where, such as `make_mesh(execution.mesh)`.
      execution: how it is executed on the mesh; `ExecutionConfig()` by default.
      objective: what is minimised; next-token prediction by default.
      trains: whether batches must fit the mesh, which they need not to read a checkpoint.
      rows_per_example: of the data; see `data.base.DataConfig`.

    Raises:
      ShardingError: if the mesh does not divide a parameter or the batch.
      ConfigError: if the model cannot hold rows of this length, if nothing matches a pattern of
        `train.freeze`, if its parametrisation has no rule
        for the optimiser, if the devices cannot offload, if the objective does not add
        over microbatches and there are several, or if the batch does not divide into them.
    """
    execution = ExecutionConfig() if execution is None else execution
    objective = NextToken() if objective is None else objective
    if execution.accumulation > 1 and not adds_over_microbatches(objective):
        raise ConfigError(
            f"execution.accumulation={execution.accumulation} works through a batch in "
            f"microbatches, and the loss of {type(objective).__name__} is not a sum over "
            "them; set it to 1."
        )
    microbatch_size = execution.microbatch_size(train)
    check_model_fits(model, execution.layout, mesh)
    check_freeze(model, train.freeze)
    for stage in train.batch_sizes.stages if trains else ():
        size = min(stage.batch_size, microbatch_size)
        name = "train.batch_size / execution.accumulation"
        check_batch_fits(name, size, train.length, mesh, execution.rules)
    model.batch_spec(
        batch_size=train.batch_size, length=train.length, source_length=train.source_length
    )
    active = model.count().active
    total_steps = train.total_steps(active, rows_per_example)

    def steps(duration: DurationLike) -> int:
        return parse_duration(duration).steps(
            steps_for_tokens=lambda tokens: train.steps_for_tokens(tokens, rows_per_example),
            active_parameters=active,
            total_steps=total_steps,
        )

    def steps_or_none(duration: DurationLike | None) -> int:
        return 0 if duration is None else steps(duration)

    schedule = train.schedule.build(total_steps, steps)
    optimizer = build_optimizer(train.optimizer, schedule, model)
    if execution.remat_offloaded:
        check_host_memory(mesh, f"execution.remat_offloaded={execution.remat_offloaded}")
    if execution.offload_optimizer:
        check_host_memory(mesh, "execution.offload_optimizer=True")
        optimizer = kept_on_host(optimizer)
    return Program(
        model=model,
        train=train,
        execution=execution,
        mesh=mesh,
        objective=objective,
        total_steps=total_steps,
        rows_per_example=rows_per_example,
        microbatch_size=microbatch_size,
        log_every=steps(execution.log_every),
        checkpoint_every=steps(execution.checkpoint_every),
        keep_every=steps_or_none(execution.keep_every),
        heldout_every=steps_or_none(execution.heldout_every),
        compare_replicas_every=steps_or_none(execution.compare_replicas_every),
        repeat_step_every=steps_or_none(execution.repeat_step_every),
        schedule=schedule,
        optimizer=optimizer,
    )
