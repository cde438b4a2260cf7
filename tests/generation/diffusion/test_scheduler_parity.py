"""Samplers against diffusers' schedulers: one trajectory, given the same predictions.

Run by tools/parity.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.generation.diffusion.base import Denoised
from jaxgen.generation.diffusion.grid import Grid
from jaxgen.generation.diffusion.integrating import integrate
from jaxgen.generation.diffusion.samplers import (
    Ddim,
    Ddpm,
    DpmSolver,
    Euler,
    Heun,
    Plms,
)
from jaxgen.ops.diffusion.betas import Betas
from jaxgen.ops.diffusion.corruption import clean_of, noise_of
from jaxgen.ops.diffusion.schedules import RectifiedFlow

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
OURS = Betas("scaled_linear", first=0.00085, last_beta=0.012)
STEPS = 10


def predicted(x, time):
    """A network: its output depends on x and on the time that it is told."""
    return 0.1 * x + 0.05 * time / 1000


def ours(sampler, schedule, target="noise", start=None, grid=None, noises=None):
    def denoise(x, level):
        output = predicted(x, level.time)
        return Denoised(
            clean_of(target, output, x, level.alpha, level.sigma),
            noise_of(target, output, x, level.alpha, level.sigma),
        )

    with jax.enable_x64(True):
        x = jnp.asarray(start, jnp.float64)
        grid = grid or sampler.grid(schedule)

        def noise(number):
            return jnp.asarray(noises)[number]

        return np.asarray(integrate(sampler, grid, denoise, x, noise))


def theirs(scheduler, start, scales=False, **options):
    scheduler.set_timesteps(STEPS)
    x = torch.tensor(start) * (scheduler.init_noise_sigma if scales else 1.0)
    for time in scheduler.timesteps:
        told = scheduler.scale_model_input(x, time) if scales else x
        output = predicted(told, time.double())
        x = scheduler.step(output, time, x, **options).prev_sample
    return x.numpy()


@pytest.fixture
def start():
    return np.random.default_rng(0).normal(size=(3, 4))


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim(start, spacing):
    scheduler = diffusers.DDIMScheduler(**SCALED, clip_sample=False, timestep_spacing=spacing)
    found = ours(Ddim(STEPS, spacing), OURS, start=start)
    np.testing.assert_allclose(found, theirs(scheduler, start), rtol=2e-5, atol=2e-5)


def test_ddim_of_v_without_a_signal_at_the_end(start):
    scheduler = diffusers.DDIMScheduler(
        **SCALED,
        clip_sample=False,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
    )
    betas = Betas("scaled_linear", first=0.00085, last_beta=0.012, zero_terminal=True)
    found = ours(Ddim(STEPS, "trailing"), betas, "v", start)
    np.testing.assert_allclose(found, theirs(scheduler, start), rtol=2e-5, atol=2e-5)


def test_ddpm(start, monkeypatch):
    scheduler = diffusers.DDPMScheduler(**SCALED, clip_sample=False, timestep_spacing="trailing")
    noises = np.random.default_rng(1).normal(size=(STEPS, *start.shape))
    drawn = iter(torch.tensor(noises))
    module = "diffusers.schedulers.scheduling_ddpm.randn_tensor"
    monkeypatch.setattr(module, lambda *args, **named: next(drawn))
    expected = theirs(scheduler, start)
    found = ours(Ddpm(STEPS, "trailing"), OURS, start=start, noises=noises)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_plms(start):
    """Up to the last step, which theirs takes to step 0 and ours to the picture."""
    scheduler = diffusers.PNDMScheduler(
        **SCALED, skip_prk_steps=True, set_alpha_to_one=True, timestep_spacing="leading"
    )
    found = ours(Plms(STEPS, "leading"), OURS, start=start)
    np.testing.assert_allclose(found, theirs(scheduler, start), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("sampler", "name"), [(Euler(STEPS, "linspace"), "Euler"), (Heun(STEPS, "linspace"), "Heun")]
)
def test_euler_and_heun(start, sampler, name):
    """Theirs moves x / alpha, whose first noise is larger by the ratio of both."""
    scheduler = getattr(diffusers, f"{name}DiscreteScheduler")(
        **SCALED, timestep_spacing="linspace"
    )
    grid = sampler.grid(OURS)
    scheduler.set_timesteps(STEPS)
    ratio = float(scheduler.init_noise_sigma) * grid.alphas[0]
    found = ours(sampler, OURS, start=start * ratio)
    expected = theirs(scheduler, start, scales=True)
    np.testing.assert_allclose(found, expected, rtol=5e-5, atol=5e-5)


def test_dpm_solver(start):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **SCALED, algorithm_type="dpmsolver++", solver_order=2, timestep_spacing="trailing",
        final_sigmas_type="zero",
    )  # fmt: skip
    found = ours(DpmSolver(STEPS, "trailing"), OURS, start=start)
    np.testing.assert_allclose(found, theirs(scheduler, start), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_of_a_shifted_flow(start, shift):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    sigmas = np.linspace(1, 1 / STEPS, STEPS)
    scheduler.set_timesteps(sigmas=sigmas)
    x = torch.tensor(start)
    for time in scheduler.timesteps:
        x = scheduler.step(predicted(x, time.double()), time, x).prev_sample
    found = ours(Euler(STEPS), RectifiedFlow(shift=shift), "flow", start)
    np.testing.assert_allclose(found, x.numpy(), rtol=2e-5, atol=2e-5)


def test_our_grids_are_theirs():
    for spacing in ("leading", "trailing", "linspace"):
        scheduler = diffusers.EulerDiscreteScheduler(**SCALED, timestep_spacing=spacing)
        scheduler.set_timesteps(STEPS)
        grid = Grid.of(OURS, STEPS, spacing)
        ratios = grid.sigmas[:-1] / grid.alphas[:-1]
        np.testing.assert_allclose(ratios, scheduler.sigmas.numpy()[:-1], rtol=1e-4)
