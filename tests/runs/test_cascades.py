"""Cascades: what goes from one stage to the next, of models whose answer is known."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import nnx
from support.known_denoisers import LinearConfig

from jaxgen.commands.sampling_progress import steps_of
from jaxgen.errors import ConfigError
from jaxgen.generation.diffusion.samplers import Ddim
from jaxgen.generation.diffusion.sampling import PictureSampling
from jaxgen.models.diffusion.config import DiffusionConfig, Upsampling
from jaxgen.ops.diffusion.corruption import Corruption
from jaxgen.ops.diffusion.schedules import Cosine
from jaxgen.ops.resizing import resizing_matrix
from jaxgen.runs.cascades import Stage, check_stages, run_stages
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh


@dataclasses.dataclass(frozen=True)
class CopyConfig(LinearConfig):
    """An upsampler that says of x what it reads beside."""

    image_channels: int = 3

    def build_denoiser(self, rngs):
        return Copy()


class Copy(nnx.Module):
    def __call__(self, x, time, conditioning, key=None):
        return conditioning.image


@dataclasses.dataclass(frozen=True)
class FixedConfig(LinearConfig):
    """A base that says a gradient of greys, whatever it reads."""

    def build_denoiser(self, rngs):
        return Fixed()


class Fixed(nnx.Module):
    def __call__(self, x, time, conditioning, key=None):
        return x * 0 + np.linspace(-0.5, 0.5, x.shape[2], dtype=np.float32)[None, None, :, None]


def stage(denoiser, **settings):
    config = DiffusionConfig(denoiser=denoiser, **settings)
    model = config.build(nnx.Rngs(0), Layout())
    sampling = PictureSampling(Ddim(3))
    return Stage("a", model, Corruption(Cosine(), "x"), sampling, None, 1)


def test_an_upsampler_enlarges_what_was_made():
    """The picture of 4 x 4 made larger twice by an upsampler that copies: by interpolation."""
    with jax.set_mesh(make_mesh(MeshConfig(1), jax.devices()[:1])):
        base = stage(FixedConfig(size=4))
        first, second = (
            stage(CopyConfig(size=size), upsampling=Upsampling(size // 2, noise=0.0))
            for size in (8, 16)
        )
        check_stages([base, first, second])
        made = run_stages([base, first, second], ["", "", ""], range(3), 0, 2)
    rows = np.broadcast_to(np.linspace(-0.5, 0.5, 4)[None, :], (4, 4))
    for size in (4, 8):
        matrix = resizing_matrix(size, 2 * size)
        rows = matrix @ rows @ matrix.T
    np.testing.assert_allclose(made, np.broadcast_to(rows[None, ..., None], made.shape), atol=1e-5)


def test_stages_that_do_not_follow_are_refused():
    base = stage(FixedConfig(size=4))
    upsampler = stage(CopyConfig(size=8), upsampling=Upsampling(4))
    with pytest.raises(ConfigError, match="nothing before it makes any"):
        check_stages([upsampler])
    with pytest.raises(ConfigError, match="does not read"):
        check_stages([base, base])
    with pytest.raises(ConfigError, match="enlarges pictures of 4 x 4, and a makes some of 8 x 8"):
        check_stages([base, upsampler, upsampler])


def test_vectors_are_of_what_reads_them():
    """A decoder follows a prior, at once or after another stage; nothing else does."""

    class Pair:
        pooled_dim, reads_vectors = 8, True

    def of(conditioner=None, latents=None, **sizes):
        config = SimpleNamespace(conditioner=conditioner, upsampling=None, **sizes)
        model = SimpleNamespace(config=config, latents=latents)
        return Stage("a", model, Corruption(), PictureSampling(), None, 1)

    prior, base = of(latents=object()), of(picture_size=4)
    decoder = of(SimpleNamespace(parts=(object(), Pair())), picture_size=4)
    check_stages([prior, decoder])
    with pytest.raises(ConfigError, match="no stage before it makes any; name the run of a prior"):
        check_stages([decoder])
    with pytest.raises(ConfigError, match="whose vectors it does not read"):
        check_stages([prior, base])


def test_resizing_keeps_means_and_what_is_constant():
    for size, new in ((4, 8), (16, 4), (6, 4)):
        matrix = resizing_matrix(size, new)
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
    # Halved, the weights of pixels are those of a triangle two pixels wide: 1/8, 3/8, 3/8, 1/8.
    np.testing.assert_allclose(resizing_matrix(8, 4)[1, 1:5], np.array([1, 3, 3, 1]) / 8)


def test_every_step_of_every_stage_is_counted_and_nothing_else_changes():
    """A terminal's bar is moved once a step, by as many steps as it was opened for."""
    with jax.set_mesh(make_mesh(MeshConfig(1), jax.devices()[:1])):
        large = CopyConfig(size=8)
        stages = [
            stage(FixedConfig(size=4)),
            stage(large, upsampling=Upsampling(low_size=4, noise=0.0)),
        ]
        done = []
        arguments = stages, ["", "", ""], range(3), 0, 2
        counted = run_stages(*arguments, on_step=lambda number: done.append(int(number)))
        jax.effects_barrier()
        np.testing.assert_array_equal(counted, run_stages(*arguments))
    # Two batches of three steps, in each of two stages.
    assert steps_of(stages, 3, 2, 1.0) == [6, 6]
    assert sorted(done) == sorted([0, 1, 2] * 4)
    assert steps_of(stages, 3, 2, 0.5)[0] == 4
