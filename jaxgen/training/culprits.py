"""Finds the rows of a batch whose loss or gradient is not finite."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.objectives.base import Objective, at_step
from jaxgen.training.state import trained, with_trained


def find_rows(
    is_finite: Any,
    model: Any,
    batch: Any,
    accumulation: int,
    key: jax.Array,
    step: Any,
    limit: int = 4,
) -> list[int]:
    """Returns the numbers, in the batch, of the first rows that are not finite by themselves.

    A batch is divided and divided again, each part repeated to the size of the whole, so that any
    objective and any mesh can tell; that takes about 2 log2(rows) gradients for each row found. It
    may find none, where only all of them together are not finite.

    Args:
      is_finite: the `row_check` of what is minimised, compiled when it is first needed.
      model: its parameters.
      batch: as `put_batch` gives it.
      accumulation: its microbatches.
      key: of the step.
      step: counted from 0.
      limit: how many rows are looked for.
    """

    found: list[int] = []
    for index in range(accumulation):
        micro = batch if accumulation == 1 else jax.tree.map(lambda x, at=index: x[at], batch)
        size = jax.tree.leaves(micro)[0].shape[0]
        parts = [np.arange(size)]
        while parts and len(found) < limit:
            part = parts.pop()
            rows = np.resize(part, size)
            if is_finite(model, micro, rows, jax.random.fold_in(key, index), step):
                continue
            if len(part) == 1:
                found.append(index * size + int(part[0]))
            else:
                parts += np.array_split(part, 2)[::-1]
    return found


def row_check(objective: Objective) -> Any:
    """Returns a program that tells whether the loss and gradient of some rows are finite."""

    @jax.jit
    def is_finite(model: Any, batch: Any, rows: jax.Array, key: jax.Array, step: Any) -> jax.Array:
        def chosen(array: Any) -> Any:
            return array.at[rows].get(out_sharding=jax.typeof(array).sharding)

        def loss_of(parameters: Any) -> jax.Array:
            part = jax.tree.map(chosen, batch)
            return at_step(objective, step)(with_trained(model, parameters), part, key).total

        loss, gradients = jax.value_and_grad(loss_of)(trained(model))
        return jnp.isfinite(loss + optax.tree.norm(gradients))

    return is_finite
