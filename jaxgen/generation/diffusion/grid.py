"""The times that a sampler goes through, and what is known of them before anything is sampled."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxgen.ops.diffusion.schedules import Schedule, Spacing


@dataclasses.dataclass(frozen=True)
class Grid:
    """Noise levels, the noisiest first, and at the end none; float64.

    Attributes:
      alphas: [steps + 1], the last is 1.
      sigmas: [steps + 1], the last is 0.
      times: [steps], as a network reads them.
    """

    alphas: np.ndarray
    sigmas: np.ndarray
    times: np.ndarray

    @staticmethod
    def of(schedule: Schedule, steps: int, spacing: Spacing | None, offset: int = 0) -> Grid:
        """Returns the noise levels of a schedule's times."""
        times = schedule.times(steps, spacing)
        times = np.minimum(times + offset, schedule.last) if offset else times
        alphas, sigmas = schedule.alpha_sigma(times)
        return Grid(np.append(alphas, 1.0), np.append(sigmas, 0.0), schedule.network_time(times))

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.times)

    def after(self, strength: float) -> Grid:
        """Returns the last part of the grid, of a share `strength` of its steps, at least one."""
        skipped = self.steps - max(1, round(strength * self.steps))
        return Grid(self.alphas[skipped:], self.sigmas[skipped:], self.times[skipped:])


class Level(NamedTuple):
    """A noise level: scalars alpha, sigma, and the time that a network reads."""

    alpha: Any
    sigma: Any
    time: Any


class Step(NamedTuple):
    """One step of a sampler.

    Attributes:
      here: the level that x is at.
      there: the level that it goes to.
      carried: (log snr of there - of here) / (2 (of here - of before)), of multistep solvers; 0 in
        the first step.
    """

    here: Level
    there: Level
    carried: Any


def steps_of(grid: Grid, dtype: Any) -> Step:
    """Returns all steps of a grid, arrays [steps] of a dtype."""
    with np.errstate(divide="ignore"):
        log_snr = np.log(grid.alphas) - np.log(grid.sigmas)
    gaps = np.diff(log_snr)
    with np.errstate(invalid="ignore"):
        carried = np.concatenate([[0.0], gaps[1:] / (2 * gaps[:-1])])
    carried = np.where(np.isfinite(carried), carried, 0.0)
    times = np.append(grid.times, 0.0)
    columns = (grid.alphas, grid.sigmas, times)
    here, there = (Level(*(jnp.asarray(c[part], dtype) for c in columns)) for part in _ENDS)
    return Step(here, there, jnp.asarray(carried, dtype))


_ENDS = (slice(None, -1), slice(1, None))
