"""Samplers: from noise to pictures along a grid of noise levels.

A sampler is a frozen dataclass that says its grid and takes one step; `integrating.integrate` goes
through all.
Your own has the members of `base.Sampler`, and is bound in gin as `picture_sampling.sampler`.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.domains import Domain, NonNegativeInt, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.generation.diffusion.base import Denoise, Denoised, Noise
from jaxgen.generation.diffusion.clean_errors import CleanErrors
from jaxgen.generation.diffusion.grid import Grid, Step
from jaxgen.ops.diffusion.schedules import Schedule, Spacing


@dataclasses.dataclass(frozen=True)
class _OfTimes:
    """What the grids of all samplers are made of.

    Attributes:
      steps: times at which the network is asked (Heun's: twice).
      spacing: of discrete times; see `ops.diffusion.schedules`; None: the schedule's own.
      offset: added to discrete times (Stable Diffusion has 1 with "leading").
    """

    steps: PositiveInt = 50
    spacing: Spacing | None = None
    offset: NonNegativeInt = 0

    NAME: ClassVar[str] = "sampler"

    def __post_init__(self):
        check_domains(self, self.NAME)

    def grid(self, schedule: Schedule) -> Grid:
        """Returns the noise levels."""
        return Grid.of(schedule, self.steps, self.spacing, self.offset)


@dataclasses.dataclass(frozen=True)
class _OfDiscreteEnd(_OfTimes):
    """What the grids are made of that may end at the first time, with the little noise of it.

    Attributes:
      ends_noisy: whether they do (`set_alpha_to_one` in diffusers), or at the picture.
    """

    ends_noisy: bool = False

    def grid(self, schedule: Schedule) -> Grid:
        """Returns the noise levels."""
        grid = super().grid(schedule)
        if not self.ends_noisy:
            return grid
        alpha, sigma = schedule.alpha_sigma(np.zeros(1))
        alphas = np.concatenate([grid.alphas[:-1], alpha])
        return Grid(alphas, np.concatenate([grid.sigmas[:-1], sigma]), grid.times)


@dataclasses.dataclass(frozen=True)
class Ddim(_OfDiscreteEnd):
    """DDIM (2010.02502); without its noise it is Euler's method, for flows too.

    Attributes:
      eta: 0 adds no noise, 1 as much as ancestral sampling.
      errors: of the network's clean pictures; see `Ddpm`. Where they are given, a step has the
        variance that is optimal for it besides (of eta = 0: analytic DDIM).
    """

    eta: Annotated[float, Domain(0, 1)] = 0.0
    errors: CleanErrors | None = None

    NAME: ClassVar[str] = "ddim"

    def step(
        self, denoise: Denoise, x, memory, step: Step, noise: Noise, is_first: bool, is_last: bool
    ) -> tuple[jax.Array, Any]:
        """Takes a step; see `base.Sampler`."""
        del is_first
        found = denoise(x, step.here)
        if is_last and not self.ends_noisy:
            return found.clean, memory
        return _ancestral(found, step, self.eta, self.errors, noise), memory


@dataclasses.dataclass(frozen=True)
class Euler(_OfTimes):
    """Euler's method in sigma / alpha (2206.00364), and in t for flows: the same step.

    Attributes:
      ancestral: whether a step goes too far and adds noise.
    """

    ancestral: bool = False

    NAME: ClassVar[str] = "euler"

    def step(
        self, denoise: Denoise, x, memory, step: Step, noise: Noise, is_first: bool, is_last: bool
    ) -> tuple[jax.Array, Any]:
        """Takes a step; see `base.Sampler`."""
        return Ddim(eta=float(self.ancestral)).step(
            denoise, x, memory, step, noise, is_first, is_last
        )


@dataclasses.dataclass(frozen=True)
class Ddpm(_OfTimes):
    """Ancestral sampling (2006.11239): x at the next level, given this one and the clean picture.

    Attributes:
      variance: of a step: the posterior's ("small"), that of the noise between the levels
        ("large"), what the network says of where it lies between both ("learned", 2102.09672), or
        the posterior's and that of the clean picture, which the network cannot know ("optimal",
        2201.06503).
      errors: of the network's clean pictures, for the optimal variance.
    """

    variance: Literal["small", "large", "learned", "optimal"] = "small"
    errors: CleanErrors | None = None

    NAME: ClassVar[str] = "ddpm"

    def __post_init__(self):
        super().__post_init__()
        if (self.variance == "optimal") != (self.errors is not None):
            raise ConfigError(
                f"ddpm.variance={self.variance!r} and ddpm.errors={self.errors}: the optimal "
                "variance, and no other, follows from errors; give both, or neither."
            )

    def step(
        self, denoise: Denoise, x, memory, step: Step, noise: Noise, is_first: bool, is_last: bool
    ) -> tuple[jax.Array, Any]:
        """Takes a step; see `base.Sampler`."""
        del is_first
        found = denoise(x, step.here)
        if is_last:
            return found.clean, memory
        here, there = step.here, step.there
        ratio = here.alpha / there.alpha
        large = here.sigma**2 - (ratio * there.sigma) ** 2
        small = large * (there.sigma / here.sigma) ** 2
        of_clean = there.alpha * large / here.sigma**2
        mean = ratio * (there.sigma / here.sigma) ** 2 * x + of_clean * found.clean
        if self.variance == "learned":
            share = found.variance
            variance = jnp.exp(share * jnp.log(large) + (1 - share) * jnp.log(small))
        elif self.errors is not None:
            variance = small + of_clean**2 * self.errors.at(here)
        else:
            variance = small if self.variance == "small" else large
        return mean + jnp.sqrt(variance) * noise(), memory


@dataclasses.dataclass(frozen=True)
class Plms(_OfDiscreteEnd):
    """Pseudo linear multistep (2202.09778): the noise of four steps, extrapolated.

    Its weights are of even steps of time, and its steps divide by alpha: it is of schedules whose
    first time leaves some signal.
    """

    NAME: ClassVar[str] = "plms"
    NEEDS_SIGNAL: ClassVar[bool] = True

    def step(
        self, denoise: Denoise, x, memory, step: Step, noise: Noise, is_first: bool, is_last: bool
    ) -> tuple[jax.Array, Any]:
        """Takes a step; see `base.Sampler`. The first asks twice."""
        del noise
        found = denoise(x, step.here).noise
        if is_first:
            # Laid out as the noise of a step is.
            count, before = jnp.int32(1), jnp.stack([jnp.zeros_like(found)] * 3)
            mixed = found
            if not is_last:
                mixed = (found + denoise(_moved(x, found, step), step.there).noise) / 2
        else:
            count, before = memory
            weights = jnp.asarray(_ADAMS, x.dtype)[jnp.minimum(count, 3)]
            mixed = weights[0] * found + jnp.tensordot(weights[1:], before, 1)
            count = count + 1
        return _moved(x, mixed, step), (count, jnp.concatenate([found[None], before[:-1]]))


_ADAMS = (
    (1.0, 0.0, 0.0, 0.0),
    (3 / 2, -1 / 2, 0.0, 0.0),
    (23 / 12, -16 / 12, 5 / 12, 0.0),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of this step's noise and of those before it (Adams and Bashforth), by steps before."""


@dataclasses.dataclass(frozen=True)
class Heun(_OfTimes):
    """Heun's method of order 2 (2206.00364), in sigma / alpha, or in t where there is no signal."""

    NAME: ClassVar[str] = "heun"

    def step(
        self, denoise: Denoise, x, memory, step: Step, noise: Noise, is_first: bool, is_last: bool
    ) -> tuple[jax.Array, Any]:
        """Takes a step; see `base.Sampler`. All but the last ask twice."""
        del noise, is_first
        found = denoise(x, step.here)
        if is_last:
            return found.clean, memory
        guess = step.there.alpha * found.clean + step.there.sigma * found.noise
        again = denoise(guess, step.there)
        # Where alpha is 0 the ratio sigma / alpha is no coordinate; sigma / (alpha + sigma) is.
        in_ratio = step.here.alpha > 0
        scale_here, scale_there = (
            jnp.where(in_ratio, level.alpha, level.alpha + level.sigma)
            for level in (step.here, step.there)
        )
        slope = (found.noise + again.noise) / 2
        clean = (found.clean + again.clean) / 2
        slope = jnp.where(in_ratio, slope, slope - clean)
        gap = step.there.sigma / scale_there - step.here.sigma / scale_here
        return scale_there * (x / scale_here + gap * slope), memory


@dataclasses.dataclass(frozen=True)
class DpmSolver(_OfTimes):
    """DPM-Solver++(2M) (2211.01095): order 2 in the logarithm of alpha / sigma, one call a step."""

    NAME: ClassVar[str] = "dpm_solver"

    def step(
        self, denoise: Denoise, x, memory, step: Step, noise: Noise, is_first: bool, is_last: bool
    ) -> tuple[jax.Array, Any]:
        """Takes a step; see `base.Sampler`. The first and the last are of order 1."""
        del noise
        clean = denoise(x, step.here).clean
        if is_last:
            return clean, clean
        mixed = clean if is_first else clean + step.carried * (clean - memory)
        kept = step.there.sigma / step.here.sigma
        return kept * x + (step.there.alpha - step.here.alpha * kept) * mixed, clean


def _moved(x: jax.Array, noise: jax.Array, step: Step) -> jax.Array:
    """Returns x at the next level, if its noise is this."""
    here, there = step.here, step.there
    return there.alpha * ((x - here.sigma * noise) / here.alpha) + there.sigma * noise


def _ancestral(
    found: Denoised, step: Step, eta: float, errors: CleanErrors | None, noise: Noise
) -> jax.Array:
    """Returns x at the next level with a share of its noise drawn anew."""
    here, there = step.here, step.there
    if not eta and errors is None:
        return there.alpha * found.clean + there.sigma * found.noise
    # What is new has the posterior's variance, times eta^2.
    ratio = here.alpha * there.sigma / (there.alpha * here.sigma)
    new = eta * there.sigma * jnp.sqrt(jnp.maximum(1 - ratio**2, 0.0))
    kept = jnp.sqrt(jnp.maximum(there.sigma**2 - new**2, 0.0))
    if errors is not None:
        # The noise that is kept is x's, less the clean picture: its error is in both.
        of_clean = there.alpha - kept * here.alpha / here.sigma
        new = jnp.sqrt(new**2 + of_clean**2 * errors.at(here))
    return there.alpha * found.clean + kept * found.noise + new * noise()
