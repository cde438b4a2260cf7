"""The gradient of a batch that is worked through in microbatches, held in memory once.

A sum of gradients and the next one's would be two copies. Here the backward pass adds what it finds
to references (`jax.new_ref`) where it finds it: inside the scan over layers, a layer at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.objectives.base import Loss
from jaxgen.sharding.pipeline import is_over_one_stage, with_whole_layers
from jaxgen.sharding.rules import reshard


def sum_in_place(
    loss_fn: Callable[[Any, Any, Any], Loss], parameters: Any, microbatches: Any, count: int
) -> tuple[Loss, Any]:
    """Returns the sums of losses and of gradients over microbatches.

    Args:
      loss_fn: returns the loss of parameters on the microbatch of a number.
      parameters: a pytree; gradients are in its layout.
      microbatches: arrays [count, ...].
      count: of microbatches.
    """
    # A change of layout on a parameter's way to its layer would need the whole of its gradient.
    inside = jax.tree.map(lambda x: with_whole_layers(x) if is_over_one_stage(x) else x, parameters)
    gradients = jax.tree.map(lambda x: jax.new_ref(jnp.zeros_like(x)), inside)

    def add(_, scanned: tuple[Any, Any]) -> tuple[None, Loss]:
        def total_and_loss(parameters: Any) -> tuple[jax.Array, Loss]:
            loss = loss_fn(parameters, *scanned)
            return loss.total, loss

        total, backward, loss = jax.vjp(total_and_loss, inside, has_aux=True)
        backward.with_refs(gradients)(jnp.ones_like(total))
        return None, loss

    _, losses = jax.lax.scan(add, None, (jnp.arange(count), microbatches))
    summed = jax.tree.map(lambda x: jnp.sum(x, axis=0), losses)
    return summed, jax.tree.map(_in_layout_of, parameters, gradients)


def _in_layout_of(parameter: jax.Array, gradient: Any) -> jax.Array:
    spec = jax.typeof(parameter).sharding.spec
    return reshard(jax.freeze(gradient), spec)
