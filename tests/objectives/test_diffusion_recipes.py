"""The shipped recipes of diffusion: each is of its paper, and fits the networks it names."""

import math
from typing import Any

import numpy as np
import pytest
from flax import nnx
from support.known_denoisers import LinearConfig

from jaxgen.configuration import load
from jaxgen.media_batch import MediaBatch
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.sharding.layout import Layout

FILES = (
    "ddpm", "improved_ddpm", "dit", "imagen", "unclip_prior", "stable_diffusion",
    "stable_diffusion_2", "stable_diffusion_3", "edm", "jit",
)  # fmt: skip
OPTIMIZERS = {
    "imagen": (2_500_000, 2048, 1e-4),
    "stable_diffusion_1": (431_000, 2048, 1e-4),
    "dit": (7_000_000, 256, 1e-4),
    "unclip_prior": (600_000, 4096, 1.1e-4),
    "unclip_decoder": (800_000, 2048, 1.2e-4),
}


RUN = [
    "run.name='r'", "run.model=@diffusion()", "run.mixture=@image_text_pairs()", "train.steps=1",
    "diffusion.denoiser=@unet()", "unet.size=16", "train.length=1",
    "diffusion.conditioner=@class_labels()", "class_labels.classes=2", "class_labels.embed_dim=8",
]  # fmt: skip


def objective(name: str) -> Any:
    return load(["base.gin", "mixtures/sprites_drawn.gin", f"objectives/{name}.gin"], RUN).objective


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_has_a_finite_loss(name):
    loss = objective(name)
    channels = 6 if loss.corruption.learned_variance else 3
    config = DiffusionConfig(denoiser=LinearConfig(out_channels=channels))
    batch = MediaBatch(np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8))
    found = loss(config.build(nnx.Rngs(0), Layout()), batch)
    assert math.isfinite(float(found.total)) and float(found.weight) == 8


def test_schedules_are_the_published_ones():
    ddpm = objective("ddpm").corruption.schedule
    assert (ddpm.steps, ddpm.betas[0], ddpm.betas[-1]) == pytest.approx((1000, 1e-4, 0.02))
    stable = objective("stable_diffusion").corruption.schedule
    # Of the released configuration: what alphas_cumprod holds at both ends.
    assert stable.alphas[[0, -1]] ** 2 == pytest.approx([0.99915, 0.0047], abs=5e-5)
    assert objective("stable_diffusion_2").corruption.target == "v"
    flow = objective("stable_diffusion_3").corruption.schedule
    assert flow.times(28)[1] == pytest.approx(3 * (27 / 28) / (1 + 2 * 27 / 28))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_have_the_published_lengths(name):
    steps, rows, rate = OPTIMIZERS[name]
    train: Any = load([f"optimizers/{name}.gin"], ["train.length=1"], root="train")
    assert (train.steps, train.batch_size, train.schedule.peak) == (steps, rows, rate)
