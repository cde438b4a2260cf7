"""One step of training: a pure function of state and batch, jitted once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgen.batch import Batch
from jaxgen.models.moe import balanced
from jaxgen.objectives.next_token import Loss, next_token
from jaxgen.training.noise_scale import gradient_noise
from jaxgen.training.state import TrainState

Objective = Callable[[Any, Batch], Loss]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepMetrics:
    """What a step reports; all float32.

    Attributes:
      loss: what was minimised, a scalar.
      per_task: [tasks, 4], see `objectives.next_token.Loss`.
      gradient_norm: global norm before clipping.
      parameter_norm: global norm before the update.
      router: mean figures of the sparse layers, or None.
      noise: a `GradientNoise` before clipping, its batches counted in rows, or None.
    """

    loss: Any
    per_task: Any
    gradient_norm: Any
    parameter_norm: Any
    router: Any
    noise: Any


def make_train_step(
    optimizer: optax.GradientTransformation,
    num_tasks: int,
    clip_norm: float | None = None,
    accumulation: int = 1,
    seed: int = 0,
    noise_scale: bool = False,
) -> Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]:
    """The jitted step; the state given to it is donated.

    With `accumulation` above 1 the arrays of the batch are [accumulation, batch, length]; the
    gradient is that of the whole batch, and the router's losses are means over the micro-batches.
    What dropout drops is a function of (seed, step). `noise_scale`, with `accumulation` above 1,
    asks for `StepMetrics.noise`.
    """

    def objective(model: Any, batch: Batch, key: jax.Array | None) -> tuple[jax.Array, Loss]:
        loss = next_token(model, batch, num_tasks, key)
        return loss.total, loss

    differentiate = jax.grad(objective, has_aux=True)

    def of_part(model, batch: Batch, key: jax.Array | None) -> tuple[Loss, Any, Any]:
        gradients, loss = differentiate(model, batch, key)
        if not noise_scale:
            return loss, gradients, None
        # The gradient is a sum over the weight; weight x |mean|^2 is |sum|^2 / weight.
        square = optax.tree.norm(gradients, squared=True) / jnp.maximum(loss.weight, 1.0)
        return loss, gradients, square

    def gradient(model, batch: Batch, key: jax.Array) -> tuple[Loss, Any, Any]:
        key_of = (lambda i: jax.random.fold_in(key, i)) if _needs_key(model) else lambda i: None
        if accumulation == 1:
            return of_part(model, batch, key_of(0))

        def add(carry, scanned):
            index, micro_batch = scanned
            part = of_part(model, micro_batch, key_of(index))
            return jax.tree.map(jnp.add, carry, part), None

        first = jax.tree.map(lambda x: x[0], batch)
        rest = jax.tree.map(lambda x: x[1:], batch)
        rest = jnp.arange(1, accumulation), rest
        return jax.lax.scan(add, of_part(model, first, key_of(0)), rest)[0]

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        loss, gradients, squares = gradient(state.model, batch, key)
        weight = jnp.maximum(loss.weight, 1.0)
        gradient_norm = optax.tree.norm(gradients) / weight
        scale = 1.0 / weight
        if clip_norm is not None:
            scale = scale * jnp.minimum(1.0, clip_norm / (gradient_norm + 1e-6))
        gradients = jax.tree.map(lambda g: g * scale, gradients)
        noise = None
        if squares is not None:
            rows = batch.tokens.shape[1]
            noise = gradient_noise(squares / weight, gradient_norm**2, rows, accumulation * rows)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.model)
        metrics = StepMetrics(
            loss=loss.total / weight,
            per_task=loss.per_task,
            gradient_norm=gradient_norm,
            parameter_norm=optax.tree.norm(state.model),
            router=jax.tree.map(lambda x: x / weight, loss.router),
            noise=noise,
        )
        model: Any = optax.apply_updates(state.model, updates)
        if model.config.moe is not None and model.config.moe.bias_balancing:
            model = balanced(model, metrics.router.load)
        return TrainState(state.step + 1, model, optimizer_state), metrics

    return jax.jit(train_step, donate_argnums=0)


def _needs_key(model: Any) -> bool:
    return model.config.differs_in_training
