"""How wrong a network's clean pictures are at each level, and what a sampler makes of it.

A step is a normal about a mean that follows from the network's clean picture. The variance that
brings it nearest to the true step is the sampler's own and, beside it, the mean squared error of
that picture, times the square of its factor in the mean (Analytic-DPM, 2201.06503, theorem 1). Of
the best picture there is, that error is (sigma / alpha)^2 (1 - E |n|^2), with n the noise that
follows, a number; measured against true pictures, it is right for networks that err as well, and
where there is no signal.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.domains import Domain, NonNegativeFloat, check_domains
from jaxgen.errors import ConfigError
from jaxgen.generation.diffusion.grid import Grid, Level
from jaxgen.objectives.diffusion import split_variance
from jaxgen.ops.diffusion.corruption import Corruption, clean_of, corrupt
from jaxgen.sharding.rules import mesh_is_set, reshard


@dataclasses.dataclass(frozen=True)
class CleanErrors:
    """The mean squared errors of a number of a network's clean pictures, by time.

    Attributes:
      times: as the network reads them, in rising order.
      errors: one for each.
    """

    times: tuple[Annotated[float, Domain(-1e6, 1e6)], ...]
    errors: tuple[NonNegativeFloat, ...]

    def __post_init__(self):
        check_domains(self, "clean_errors")
        if not self.times or len(self.times) != len(self.errors):
            raise ConfigError(
                f"clean_errors has {len(self.times)} times and {len(self.errors)} errors; give one "
                "for each, from one on."
            )
        if any(after <= before for before, after in itertools.pairwise(self.times)):
            raise ConfigError(f"clean_errors.times={self.times}; give them in rising order.")

    def at(self, level: Level) -> Any:
        """Returns the error at a level; between two times it is interpolated."""
        return jnp.interp(level.time, jnp.asarray(self.times), jnp.asarray(self.errors))


def measure_clean_errors(
    model: Any, corruption: Corruption, grid: Grid, batch: Any, key: jax.Array
) -> CleanErrors:
    """Returns the errors of a model's clean pictures at a grid's levels.

    Call under `jax.set_mesh`, with the grid of the sampler that is to have them.

    Args:
      model: a `DiffusionModel`.
      corruption: the one that it was trained with.
      grid: `Sampler.grid` of its schedule.
      batch: rows of the data, laid out by `put_batch`; a hundred pictures give two digits.
      key: of the noise.
    """
    levels = (jnp.asarray(one, jnp.float32) for one in (grid.alphas[:-1], grid.sigmas[:-1]))
    scanned = (*levels, jnp.asarray(grid.times, jnp.float32), jnp.arange(grid.steps))
    found = _measure(model, corruption, batch, key, scanned)
    order = np.argsort(grid.times)
    errors = np.asarray(found, np.float64)[order].tolist()
    return CleanErrors(tuple(grid.times[order].tolist()), tuple(errors))


@jax.jit(static_argnums=1)
def _measure(model: Any, corruption: Corruption, batch: Any, key: jax.Array, scanned: Any) -> Any:
    """Returns the mean squared error at each level, [levels]."""
    x = model.clean(batch) / corruption.schedule.data_stddev
    layout = jax.typeof(x).sharding if mesh_is_set() else None
    rows = model.layout.rules.activation("batch")

    def of(level: Any) -> jax.Array:
        alpha, sigma, time, number = level
        noise = jax.random.normal(jax.random.fold_in(key, number), x.shape, out_sharding=layout)
        x_t = corrupt(x, noise, alpha, sigma)
        output = model.predict(x_t, reshard(jnp.full(x.shape[0], time), rows), batch)
        prediction, _ = split_variance(output, x.shape[-1], corruption.learned_variance)
        return jnp.mean(jnp.square(clean_of(corruption.target, prediction, x_t, alpha, sigma) - x))

    return jax.lax.map(of, scanned)
