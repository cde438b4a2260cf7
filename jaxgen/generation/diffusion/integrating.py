"""Goes through all steps of a sampler: the first and the last apart, the others in a scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.generation.diffusion.base import Denoise, Sampler
from jaxgen.generation.diffusion.grid import Grid, Level, Step, steps_of


def integrate(
    sampler: Sampler,
    grid: Grid,
    denoise: Denoise,
    x: jax.Array,
    noise: Callable[[Any], jax.Array],
    after_step: Callable[[jax.Array, Level, Any], jax.Array] | None = None,
    on_step: Callable[[Any], None] | None = None,
) -> jax.Array:
    """Returns the pictures that a sampler makes of noise.

    Args:
      sampler: takes the steps.
      grid: the levels; `x` is at the first.
      denoise: asks the network.
      x: the noisy pictures.
      noise: returns standard normals like `x`, of the number of a step.
      after_step: returns what x becomes after a step, such as where a part of it is known.
      on_step: is called on the host with the number of each step when it is done.
    """
    steps = steps_of(grid, x.dtype)
    last = grid.steps - 1

    def run(x, memory, number: Any, step: Step, is_first: bool, is_last: bool):
        x, memory = sampler.step(denoise, x, memory, step, lambda: noise(number), is_first, is_last)
        if on_step is not None:
            # It is given a number that is made of x, or it would not wait for the step.
            jax.debug.callback(lambda number, _, call=on_step: call(number), number, jnp.sum(x))
        return (x if after_step is None else after_step(x, step.there, number)), memory

    def part(first: int, stop: int) -> Step:
        return jax.tree.map(lambda one: one[first:stop], steps)

    x, memory = run(x, None, 0, jax.tree.map(lambda one: one[0], steps), True, last == 0)
    if last > 1:

        def body(carry, scanned):
            number, step = scanned
            return run(carry[0], carry[1], number, step, False, False), None

        scanned = jnp.arange(1, last), part(1, last)
        (x, memory), _ = jax.lax.scan(body, (x, memory), scanned)
    if last:
        final = jax.tree.map(lambda one: one[last], steps)
        x, _ = run(x, memory, last, final, False, True)
    return x
