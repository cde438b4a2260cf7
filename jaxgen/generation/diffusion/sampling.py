"""Samples pictures of a model of diffusion: one program for each shape and setting."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.domains import check_domains
from jaxgen.errors import ConfigError
from jaxgen.generation.diffusion.base import Denoised, Sampler
from jaxgen.generation.diffusion.grid import Level
from jaxgen.generation.diffusion.guidance import Guidance, Threshold
from jaxgen.generation.diffusion.integrating import integrate
from jaxgen.generation.diffusion.samplers import Ddim
from jaxgen.models.diffusion.base import Conditioning
from jaxgen.objectives.diffusion import split_variance
from jaxgen.ops.diffusion.corruption import Corruption, clean_of, corrupt, noise_of
from jaxgen.sharding.rules import mesh_is_set, reshard

KEPT, LOW = 2**30, 2**31
"""Folded into a picture's key, beside the numbers of steps, for noise on what is given."""


@dataclasses.dataclass(frozen=True)
class PictureSampling:
    """How pictures are made of noise.

    Attributes:
      sampler: goes from noise to pictures.
      guidance: of prompts.
      threshold: bounds on clean pictures; None: there are none, as of latents.
    """

    sampler: Sampler = Ddim()
    guidance: Guidance = Guidance()
    threshold: Threshold | None = None

    def __post_init__(self):
        check_domains(self, "picture_sampling")

    def check(self, corruption: Corruption) -> None:
        """Raises ConfigError if a model that was trained so cannot be sampled so."""
        sampler: Any = self.sampler
        grid = sampler.grid(corruption.schedule)
        if getattr(sampler, "variance", None) == "learned" and not corruption.learned_variance:
            raise ConfigError(
                "ddpm.variance='learned' is of networks that say their variance, and "
                "corruption.learned_variance is False; take 'small', or train with it."
            )
        if grid.alphas[0] == 0:
            schedule = type(corruption.schedule).__name__
            if getattr(sampler, "NEEDS_SIGNAL", False):
                raise ConfigError(
                    f"{sampler.NAME} divides by alpha, and {schedule} begins with none; take "
                    "another sampler, such as @euler() or @dpm_solver()."
                )
            if corruption.target == "noise":
                raise ConfigError(
                    f"corruption.target='noise' says nothing of the picture where {schedule} "
                    "begins, without a signal; train another target, such as 'v'."
                )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Given:
    """What pictures are made from beside prompts; None where there is nothing of the kind.

    Attributes:
      without: prompts in place of dropped ones, for guidance away from them (negative prompts).
      low: [batch, low_size, low_size, channels] from -1 to 1, for an upsampler.
      picture: [batch, size, size, channels] from -1 to 1, that sampling begins with, made noisy.
      keep: [batch, size, size, 1], 1 where `picture` stays as it is and 0 where it is painted anew.
    """

    without: Any = None
    low: Any = None
    picture: Any = None
    keep: Any = None


def sample_pictures(
    model: Any,
    corruption: Corruption,
    settings: PictureSampling,
    prompts: Any,
    keys: ArrayLike,
    given: Given = Given(),
    strength: float = 1.0,
    low_noise: float | None = None,
    on_step: Callable[[Any], None] | None = None,
) -> jax.Array:
    """Returns pictures [batch, picture_size, picture_size, channels] float32 from -1 to 1.

    A picture depends on its own prompt and key, not on what is beside it in the batch. Call under
    `jax.set_mesh`.

    Args:
      model: a `DiffusionModel`, or `Transfusion`.
      corruption: the one that it was trained with.
      settings: how.
      prompts: one a picture, as `model.condition` reads them; None for a model without a
        conditioner.
      keys: [batch] keys, one a picture.
      given: what else pictures are made from.
      strength: the share of the steps that `given.picture` is made noisy for; 1: it is all noise,
        but where it is kept.
      low_noise: the level of the noise on `given.low`; None: the model's own.
      on_step: is called on the host with the number of each step when it is done; one process
        alone can have it, and JAX keeps no compiled program that calls back.
    """
    if low_noise is None:
        low_noise = 0.0 if given.low is None else float(model.config.upsampling.noise)
    return _sample(model, corruption, settings, prompts, keys, given, strength, low_noise, on_step)


@functools.partial(jax.jit, static_argnums=(1, 2, 6, 7, 8))
def _sample(
    model: Any,
    corruption: Corruption,
    settings: PictureSampling,
    prompts: Any,
    keys: jax.Array,
    given: Given,
    strength: float,
    low_noise: float,
    on_step: Callable[[Any], None] | None,
) -> jax.Array:
    settings.check(corruption)
    shape = _shape(model)
    rows = model.layout.rules.activation("batch", None, None, None)
    keys = reshard(keys, jax.P(None))

    def normals(number: Any) -> jax.Array:
        """Returns standard normals of a step, a picture's from its own key."""
        layout = jax.P(*[None] * len(shape)) if mesh_is_set() else None

        def of(key):
            return jax.random.normal(jax.random.fold_in(key, number), shape, out_sharding=layout)

        return reshard(jax.vmap(of)(keys), rows)

    grid = settings.sampler.grid(corruption.schedule)
    if given.picture is not None and given.keep is None:
        grid = grid.after(strength)
    told = model.condition(prompts)
    is_guided = not settings.guidance.is_none and model.conditioner is not None
    untold = Conditioning()
    if is_guided:
        without = given.without
        untold = model.condition(prompts, False) if without is None else model.condition(without)
    if given.low is not None:
        low = model.encode(reshard(given.low, rows))
        noise = (None, None)
        if low_noise:
            level = reshard(jnp.full(low.shape[0], low_noise), jax.P(*rows[:1]))
            noise = level, normals(LOW)
        told = model.with_low(told, low, *noise)
        if is_guided:
            untold = dataclasses.replace(untold, image=told.image, time=told.time)
    first, sampling_noise = Level(grid.alphas[0], grid.sigmas[0], grid.times[0]), normals(0)
    # As if pictures had the variance 1, of which the first level may have left a part.
    start = float((first.alpha**2 + first.sigma**2) ** 0.5) * sampling_noise
    known = None
    if given.picture is not None:
        scale = corruption.schedule.data_stddev
        known = model.encode(reshard(given.picture, rows)) / scale
        if given.keep is None:
            start = corrupt(known, sampling_noise, float(first.alpha), float(first.sigma))

    def ask(x: jax.Array, level: Level) -> Denoised:
        times = reshard(jnp.full(x.shape[0], level.time), jax.P(*rows[:1]))
        output = model.denoise(x, times, told)
        if is_guided:
            share = 1 - level.time / grid.times[0]
            output = settings.guidance.combine(output, model.denoise(x, times, untold), share)
        prediction, variance = split_variance(output, shape[-1], corruption.learned_variance)
        target = corruption.target
        clean = clean_of(target, prediction, x, level.alpha, level.sigma)
        if settings.threshold is None:
            drawn = noise_of(target, prediction, x, level.alpha, level.sigma)
            return Denoised(clean, drawn, variance)
        scale = corruption.schedule.data_stddev
        clean = settings.threshold.bound(clean * scale) / scale
        return Denoised(clean, (x - level.alpha * clean) / level.sigma, variance)

    def keep_known(x: jax.Array, level: Level, number: Any) -> jax.Array:
        keep = reshard(given.keep, rows)
        there = corrupt(known, normals(KEPT + number), level.alpha, level.sigma)
        return keep * there + (1 - keep) * x

    after_step = None if given.keep is None else keep_known
    x = integrate(
        settings.sampler, grid, ask, start, lambda number: normals(number + 1), after_step, on_step
    )
    return model.decode(x * corruption.schedule.data_stddev)


def _shape(model: Any) -> tuple[int, int, int]:
    """Returns the shape of what the denoiser makes of one picture."""
    own = model.config.denoiser
    return own.size, own.size, own.channels
