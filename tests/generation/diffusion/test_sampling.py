"""Sampling of models: guidance, thresholds, parts that stay, and what a picture depends on."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.known_denoisers import LinearConfig

from jaxgen.errors import ConfigError
from jaxgen.evaluation.picture_arrays import make_arrays
from jaxgen.generation.diffusion.guidance import Guidance, Threshold
from jaxgen.generation.diffusion.samplers import Ddim, Ddpm, DpmSolver, Heun, Plms
from jaxgen.generation.diffusion.sampling import Given, PictureSampling
from jaxgen.models.diffusion.conditioner_configs import ClassLabelsConfig
from jaxgen.models.diffusion.config import DiffusionConfig, Upsampling
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.ops.diffusion.betas import Betas
from jaxgen.ops.diffusion.corruption import Corruption
from jaxgen.ops.diffusion.schedules import Cosine, RectifiedFlow
from jaxgen.ops.pixels import as_numbers, as_pixels
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh

FLOW = Corruption(RectifiedFlow(), "flow")
CONFIG = DiffusionConfig(
    denoiser=LinearConfig(pooled_dim=8), conditioner=ClassLabelsConfig(classes=4, embed_dim=8)
)
PROMPTS = Prompts(np.array([[0], [1], [2], [3]], np.int32), np.ones(4, np.int32))


def made(settings=PictureSampling(), config=CONFIG, mesh=None, corruption=FLOW, **options: Any):
    """Pictures of four classes, on one device if nothing else is said."""
    rows = options.pop("rows", range(4))
    prompts = options.pop("prompts", PROMPTS)
    if prompts is not None:
        prompts = jax.tree.map(lambda x: x[list(rows)], prompts)
    with jax.set_mesh(mesh or make_mesh(MeshConfig(1), jax.devices()[:1])):
        model = jax.jit(lambda: config.build(nnx.Rngs(0), Layout()))()
        batch_size = options.pop("batch_size", 4)
        return make_arrays(
            model, corruption, settings, prompts, list(rows), 7, batch_size, **options
        )


def test_a_picture_depends_on_its_own_prompt_and_number_alone():
    settings = PictureSampling(Ddpm(4))
    whole = made(settings)
    np.testing.assert_allclose(made(settings, batch_size=3), whole, atol=1e-6)
    np.testing.assert_allclose(made(settings, rows=[2, 1]), whole[[2, 1]], atol=1e-6)
    assert np.abs(whole[0] - whole[1]).max() > 0.1


def test_a_mesh_makes_the_pictures_of_one_device():
    settings = PictureSampling(Ddim(5, eta=1.0), Guidance(3.0), Threshold("dynamic", 0.9))
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    np.testing.assert_allclose(made(settings, mesh=mesh), made(settings), atol=2e-5)


@pytest.mark.parametrize("sampler", [Plms(4, ends_noisy=True), DpmSolver(3)])
def test_what_samplers_remember_is_laid_out_on_the_mesh(sampler):
    corruption = Corruption(Betas("scaled_linear"), "noise")
    settings = PictureSampling(sampler, Guidance(3.0))
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    found = made(settings, mesh=mesh, corruption=corruption)
    alone = made(settings, corruption=corruption)
    np.testing.assert_allclose(found, alone, atol=1e-5 * np.abs(alone).max())


def test_ending_at_the_first_time_leaves_its_noise():
    """What DDIM makes then is the picture with the noise that the first step of the betas has."""
    corruption = Corruption(Betas("scaled_linear"), "noise")
    ends = [made(PictureSampling(Ddim(1, ends_noisy=one)), corruption=corruption)
            for one in (False, True)]  # fmt: skip
    alpha, sigma = corruption.schedule.alpha_sigma(np.zeros(1))
    grid = Ddim(1).grid(corruption.schedule)
    # One step: the noise that is predicted follows from the clean picture and what x was.
    noise = (ends[1] - alpha * ends[0]) / sigma
    x = grid.alphas[0] * ends[0] + grid.sigmas[0] * noise
    assert np.abs(x.mean()) < 0.5 and x.std() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("sampler", "corruption", "message"),
    [
        (Ddpm(variance="learned"), Corruption(Cosine()), "corruption.learned_variance is False"),
        (Ddim(2000), Corruption(Betas()), "2000 steps, and the process has 1000"),
        (Ddim(spacing="leading"), FLOW, "'leading' is of discrete steps"),
        (Plms(), FLOW, "plms divides by alpha, and RectifiedFlow begins with none"),
        (Ddim(), Corruption(RectifiedFlow(), "noise"), "without a signal; train another target"),
    ],
)
def test_what_cannot_be_sampled_is_told_before_it_is_trained(sampler, corruption, message):
    with pytest.raises(ConfigError, match=message):
        PictureSampling(sampler).check(corruption)


def test_guidance_of_1_is_the_prompt_and_of_0_is_none():
    told = made(PictureSampling(Ddim(5)))
    np.testing.assert_allclose(made(PictureSampling(Ddim(5), Guidance(1.0))), told)
    untold = made(PictureSampling(Ddim(5), Guidance(0.0)))
    # A class beyond the last is that of none.
    none = dataclasses.replace(PROMPTS, tokens=np.full_like(PROMPTS.tokens, 4))
    np.testing.assert_allclose(untold, made(PictureSampling(Ddim(5)), prompts=none), atol=1e-6)


@pytest.mark.slow
def test_guidance_on_an_interval_leaves_the_rest():
    """What begins after the last step changes nothing; what covers all is plain guidance."""
    told = made(PictureSampling(Heun(4)))
    late = made(PictureSampling(Heun(4), Guidance(5.0, first=0.999)))
    np.testing.assert_allclose(late, told, atol=1e-6)
    whole = made(PictureSampling(Heun(4), Guidance(5.0)))
    assert np.abs(whole - told).max() > 0.1
    part = made(PictureSampling(Heun(4), Guidance(5.0, first=0.2, stop=0.7)))
    assert np.abs(part - told).max() > 1e-3 and np.abs(part - whole).max() > 1e-3


def test_guidance_leads_away_from_a_negative_prompt():
    """u + w (c - u) with u of another prompt: of the prompt itself nothing changes."""
    settings = PictureSampling(Ddim(5), Guidance(4.0))
    own = made(settings, given=Given(without=PROMPTS))
    np.testing.assert_allclose(own, made(PictureSampling(Ddim(5))), atol=1e-5)


def test_rescaled_guidance_keeps_the_deviation():
    draws = np.random.default_rng(0)
    told, untold = draws.normal(size=(2, 3, 4, 4, 3))
    found = Guidance(7.0, rescale=1.0).combine(jnp.asarray(told), jnp.asarray(untold), 0.5)
    np.testing.assert_allclose(np.std(found, axis=(1, 2, 3)), told.std(axis=(1, 2, 3)), rtol=1e-4)


def test_thresholds_are_those_of_the_paper():
    clean = jnp.asarray(np.linspace(-3, 3, 101).reshape(1, 101, 1, 1))
    np.testing.assert_allclose(Threshold("static").bound(clean), np.clip(clean, -1, 1))
    found = Threshold("dynamic", 0.8).bound(clean)
    bound = np.quantile(np.abs(np.asarray(clean)), 0.8)
    np.testing.assert_allclose(found, np.clip(clean, -bound, bound) / bound, rtol=1e-5)
    small = clean / 4  # All within 1: left as they are.
    np.testing.assert_allclose(Threshold("dynamic", 0.8).bound(small), small)


def test_what_is_kept_stays_as_it_was():
    picture = as_numbers(np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3), np.uint8))
    keep = np.zeros((4, 4, 4, 1), np.float32)
    keep[:, :2] = 1
    found = made(PictureSampling(Ddim(5)), given=Given(picture=picture, keep=keep))
    np.testing.assert_allclose(found[:, :2], picture[:, :2], atol=1e-6)
    assert np.abs(found[:, 2:] - picture[:, 2:]).max() > 0.05


def test_a_picture_is_changed_the_more_the_greater_the_strength():
    picture = np.zeros((4, 4, 4, 3), np.float32)

    def sure(strength):
        """How far a model that always says the picture's opposite moves it."""
        found = made(PictureSampling(Ddim(10)), given=Given(picture=picture), strength=strength)
        return np.abs(found).mean()

    moved = [sure(strength) for strength in (0.1, 0.5, 1.0)]
    assert moved[0] < moved[1] < moved[2]


def test_an_upsampler_reads_the_smaller_picture():
    config = DiffusionConfig(denoiser=LinearConfig(image_channels=3), upsampling=Upsampling(2))
    lows = np.stack([np.full((2, 2, 3), value, np.float32) for value in (-0.8, 0.0, 0.3, 0.9)])
    corruption = Corruption(Cosine(), "v")
    settings = PictureSampling(Ddim(4))
    found = made(settings, config, prompts=None, corruption=corruption, given=Given(low=lows))
    again = made(
        settings, config, prompts=None, corruption=corruption, given=Given(low=lows[::-1].copy())
    )
    assert found.shape == (4, 4, 4, 3)
    assert np.abs(found - again).max() > 0.1


def test_noise_on_a_smaller_picture_is_its_own():
    """Whatever is beside it in the batch, and before it."""
    config = DiffusionConfig(
        denoiser=LinearConfig(image_channels=3), upsampling=Upsampling(2, noise=0.5)
    )
    lows = np.random.default_rng(0).uniform(-1, 1, (4, 2, 2, 3)).astype(np.float32)
    settings, options = PictureSampling(Ddim(2)), {"prompts": None, "config": config}

    def enlarged(rows, **more):
        return made(settings, rows=rows, given=Given(low=lows[rows]), **options, **more)

    whole = enlarged([0, 1, 2, 3])
    np.testing.assert_allclose(enlarged([2, 1]), whole[[2, 1]], atol=1e-6)
    np.testing.assert_allclose(enlarged([0, 1, 2, 3], batch_size=3), whole, atol=1e-6)
    plain = enlarged([0, 1, 2, 3], low_noise=0.0)
    assert np.abs(plain - whole).max() > 0.05


def test_pixels_come_back():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(as_pixels(as_numbers(pixels)), pixels)


@pytest.mark.parametrize("steps", [1, 2])
def test_few_steps_are_enough_for_a_program(steps):
    assert np.isfinite(made(PictureSampling(Ddim(steps)))).all()
