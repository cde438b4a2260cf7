"""What takes a step of sampling, and what it asks a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

from jaxgen.generation.diffusion.grid import Grid, Level, Step
from jaxgen.ops.diffusion.schedules import Schedule


class Denoised(NamedTuple):
    """What a network says of x at a level.

    Attributes:
      clean: the picture.
      noise: the noise; alpha clean + sigma noise is x.
      variance: where the step's variance lies between its bounds, from 0 to 1, where it is learned.
    """

    clean: Any
    noise: Any
    variance: Any = None


Denoise = Callable[[jax.Array, Level], Denoised]
Noise = Callable[[], jax.Array]
"""Returns the standard normals of a step; asked once at most."""


@runtime_checkable
class Sampler(Protocol):
    """Takes steps from a noise level to the next.

    Attributes:
      steps: how many.
    """

    @property
    def steps(self) -> int: ...

    def grid(self, schedule: Schedule) -> Grid:
        """Returns the noise levels."""
        ...

    def step(
        self,
        denoise: Denoise,
        x: jax.Array,
        memory: Any,
        step: Step,
        noise: Noise,
        is_first: bool,
        is_last: bool,
    ) -> tuple[jax.Array, Any]:
        """Returns x at the next level, and what the next step is to remember.

        The memory's shapes are the same after every step but the last; the first is given None.
        """
        ...
