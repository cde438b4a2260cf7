"""One step of training: a pure function of state and batch, jitted once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgen.objectives.base import Loss, Objective, Sum, at_step
from jaxgen.training.accumulation import sum_in_place
from jaxgen.training.noise_scale import gradient_noise
from jaxgen.training.state import TrainState, trained, with_trained


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepMetrics:
    """The figures of one step; all float32.

    Attributes:
      objective: the loss that was minimised, a scalar.
      sums: the objective's metrics, see `objectives.base.Loss`.
      gradient_norm: global norm before clipping.
      parameter_norm: global norm of the trained parameters before the update.
      noise: a `GradientNoise` before clipping, its batches counted in rows, or None.
    """

    objective: Any
    sums: dict[str, Sum]
    gradient_norm: Any
    parameter_norm: Any
    noise: Any


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    clip_norm: float | None = None,
    accumulation: int = 1,
    seed: int = 0,
    noise_scale: bool = False,
    ema_decay: float | None = None,
    skips_not_finite: bool = False,
) -> Callable[[TrainState, Any], tuple[TrainState, StepMetrics]]:
    """Returns the jitted step; the state given to it is donated.

    With `accumulation` above 1 the arrays of the batch are [accumulation, batch, ...]; the gradient
    is that of the whole batch, and the model's auxiliary losses are means over the microbatches.
    The key of a step is a function of (seed, step). `noise_scale`, with `accumulation` above 1,
    asks for `StepMetrics.noise`. `ema_decay` is that of `TrainState.ema`, if the state has it.
    `skips_not_finite` leaves all but the step and the schedule's as they are where the loss or the
    gradient is not finite.
    """

    def of_microbatch(model, batch: Any, key: jax.Array, step: Any) -> tuple[Loss, Any, Any]:
        def loss_fn(parameters: Any) -> tuple[jax.Array, Loss]:
            loss = at_step(objective, step)(with_trained(model, parameters), batch, key)
            return loss.total, loss

        gradients, loss = jax.grad(loss_fn, has_aux=True)(trained(model))
        if not noise_scale:
            return loss, gradients, None
        # The gradient is a sum over the weight; weight x |mean|^2 is |sum|^2 / weight.
        square = optax.tree.norm(gradients, squared=True) / jnp.maximum(loss.weight, 1.0)
        return loss, gradients, square

    def gradient(model, batch: Any, key: jax.Array, step: Any) -> tuple[Loss, Any, Any]:
        def key_of(index):
            return jax.random.fold_in(key, index)

        if accumulation == 1:
            return of_microbatch(model, batch, key_of(0), step)

        if not noise_scale:

            def loss_fn(parameters: Any, index: Any, microbatch: Any) -> Loss:
                whole = with_trained(model, parameters)
                return at_step(objective, step)(whole, microbatch, key_of(index))

            return *sum_in_place(loss_fn, trained(model), batch, accumulation), None

        # The noise is how gradients differ, so a microbatch's must be there by itself.
        def add(carry, scanned):
            index, microbatch = scanned
            part = of_microbatch(model, microbatch, key_of(index), step)
            return jax.tree.map(jnp.add, carry, part), None

        first = jax.tree.map(lambda x: x[0], batch)
        rest = jax.tree.map(lambda x: x[1:], batch)
        rest = jnp.arange(1, accumulation), rest
        return jax.lax.scan(add, of_microbatch(model, first, key_of(0), step), rest)[0]

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        loss, gradients, squares = gradient(state.model, batch, key, state.step)
        weight = jnp.maximum(loss.weight, 1.0)
        gradient_norm = optax.tree.norm(gradients) / weight
        scale = 1.0 / weight
        if clip_norm is not None:
            scale = scale * jnp.minimum(1.0, clip_norm / (gradient_norm + 1e-6))
        gradients = jax.tree.map(lambda g: g * scale, gradients)
        noise = None
        if squares is not None:
            rows = jax.tree.leaves(batch)[0].shape[1]
            noise = gradient_noise(squares / weight, gradient_norm**2, rows, accumulation * rows)
        parameters = trained(state.model)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, parameters)
        metrics = StepMetrics(
            objective=loss.total / weight,
            sums=loss.metrics,
            gradient_norm=gradient_norm,
            parameter_norm=optax.tree.norm(parameters),
            noise=noise,
        )
        parameters: Any = optax.apply_updates(parameters, updates)
        moved = after_update(with_trained(state.model, parameters), loss.metrics)
        model = with_trained(state.model, trained(moved))
        ema = _moved(state.ema, trained(model), state.step, ema_decay)
        after = TrainState(state.step + 1, model, optimizer_state, ema)
        if skips_not_finite:
            is_finite = jnp.isfinite(metrics.objective + gradient_norm)
            after = _after_step(is_finite, after, state)
        return after, metrics

    return jax.jit(train_step, donate_argnums=0)


def _after_step(is_finite: jax.Array, after: TrainState, before: TrainState) -> TrainState:
    """Returns the state after a step that may have been skipped."""

    def is_schedule(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState)

    def choose(new: Any, old: Any) -> Any:
        return new if is_schedule(new) else jax.lax.select(is_finite, new, old)

    chosen = jax.tree.map(choose, after, before, is_leaf=is_schedule)
    return dataclasses.replace(chosen, step=after.step)


def _moved(ema: Any, parameters: Any, step: jax.Array, decay: float | None) -> Any:
    """Returns the averages after a step; early ones forget their beginning faster."""
    if decay is None:
        return ema
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda mean, new: kept * mean + (1 - kept) * new, ema, parameters)


def after_update(model: Any, sums: dict[str, Sum]) -> Any:
    """Returns the model after its own `after_update`, if it has one; see `models.base`."""
    if not hasattr(model, "after_update"):
        return model
    return model.after_update(
        {name: one.total / jnp.maximum(one.weight, 1.0) for name, one in sums.items()}
    )
