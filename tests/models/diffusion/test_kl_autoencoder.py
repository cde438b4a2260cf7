"""KL autoencoders: exact counts, latents and their distributions, losses, meshes, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.autoencoders import build_autoencoder
from support.helpers import one_device_mesh, spread

from jaxgen.commands.models import load_model
from jaxgen.errors import ConfigError, ShardingError
from jaxgen.media_batch import MediaBatch
from jaxgen.models.base import abstract_model
from jaxgen.models.diffusion.config import LatentsConfig
from jaxgen.models.diffusion.kl_autoencoder import drawn
from jaxgen.models.diffusion.kl_autoencoder_config import KlAutoencoderConfig
from jaxgen.models.parameters import named_parameters, number_of_parameters
from jaxgen.objectives.realism import Realism, perceptual_distance
from jaxgen.objectives.reconstruction import Reconstruction
from jaxgen.planning.work import read_work
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.loading import put_batch

SMALL = KlAutoencoderConfig(
    size=8, width=8, multipliers=(1, 2), blocks=1, norm_groups=4, latent_scale=0.5, latent_shift=0.3
)
JUDGED = dataclasses.replace(SMALL, discriminator=4)
OBJECTIVE = Reconstruction("l1", kl_weight=1e-2, realism=Realism(0.5, 0.25))


def pictures(rows=8, size=8):
    values = np.random.default_rng(0).integers(0, 256, (rows, size, size, 3))
    return MediaBatch(values.astype(np.uint8))


@pytest.mark.parametrize("config", [SMALL, JUDGED], ids=["small", "judged"])
def test_counts_equal_the_real_tree(config):
    count = config.count()
    assert count.total == number_of_parameters(abstract_model(config))
    assert count.active == SMALL.count().total
    assert isinstance(config, LatentsConfig)


@pytest.mark.parametrize(("name", "count"), [("kl_f8", 83_653_863), ("kl_f8_z16", 83_819_683)])
def test_published_counts_are_exact(name, count):
    config = load_model(f"codecs/{name}")
    assert config.count().total == count == config.card.parameters
    assert number_of_parameters(abstract_model(config)) == count
    assert (config.latent_size, config.picture_size) == (32, 256)


def test_flops_are_those_of_the_compiled_program():
    config = dataclasses.replace(SMALL, size=32)
    model, batch = abstract_model(config), pictures(2, 32)
    program = jax.jit(lambda model, batch: model(batch)).lower(model, batch).compile().as_text()
    assert program is not None
    assert 0.9 < read_work(program, {}).flops / (2 * config.flops(1) / 3) < 1.01
    assert 0 < config.latent_flops() < config.flops(1) / 6


@pytest.mark.slow
def test_latents_are_drawn_scaled_and_shifted():
    model, key = spread(build_autoencoder(SMALL)), jax.random.key(0)
    values = jnp.asarray(pictures(2).values, jnp.float32) / 127.5 - 1

    @jax.jit
    def run(model, values):
        moments, latents = model.encode_moments(values), model.to_latents(values)
        again = model.to_pictures(latents), model.decode(moments[0])
        return moments, latents, model.to_latents(values, key), *again

    (mean, log_variance), latents, one, made, decoded = run(model, values)
    assert mean.shape == log_variance.shape == (2, 4, 4, 4)
    np.testing.assert_allclose(latents, (mean - 0.3) * 0.5, atol=1e-5)
    np.testing.assert_allclose(made, np.clip(decoded, -1, 1), atol=1e-5)
    np.testing.assert_allclose(one, (drawn(mean, log_variance, key) - 0.3) * 0.5, atol=1e-5)
    many = jax.vmap(lambda key: drawn(mean, log_variance, key))(jax.random.split(key, 4000))
    spreads = np.exp(0.5 * np.asarray(log_variance))
    np.testing.assert_allclose((np.mean(many, 0) - mean) / spreads, 0, atol=0.09)
    np.testing.assert_allclose(np.std(many, 0) / spreads, 1, atol=0.07)


def test_the_divergence_is_that_of_normal_distributions():
    """By the integral of the density times the logarithm of the ratio."""
    model, batch = spread(build_autoencoder(SMALL)), pictures(2)

    @jax.jit
    def run(model, batch):
        output = model(batch)
        return output, model.encode_moments(output.targets)

    output, moments = run(model, batch)
    mean, log_variance = (np.asarray(one[0], np.float64).ravel() for one in moments)
    places = np.linspace(-12, 12, 20_001)[:, None]
    x, deviation = mean + places * np.exp(0.5 * log_variance), np.exp(0.5 * log_variance)
    density = np.exp(-(places**2) / 2) / np.sqrt(2 * np.pi) / deviation
    ratio = -(places**2) / 2 - 0.5 * log_variance + x**2 / 2
    total = np.sum(density * ratio * deviation) * (places[1, 0] - places[0, 0])
    np.testing.assert_allclose(output.kl[0], total, rtol=1e-4)
    np.testing.assert_allclose(output.values, batch.values / 255, atol=1e-6)


@pytest.mark.slow
def test_the_loss_is_the_sum_of_what_it_says():
    model, batch, key = spread(build_autoencoder(JUDGED)), pictures(4), jax.random.key(1)
    before = dataclasses.replace(OBJECTIVE, realism=Realism(0.5, 0.25, judged_from=10))

    @jax.jit
    def run(model, batch):
        ends = [before.at_step(jnp.asarray(step))(model, batch, key) for step in (9, 10)]
        return OBJECTIVE(model, batch, key), *ends

    loss, early, late = run(model, batch)
    found = {name: float(one.total / one.weight) for name, one in loss.metrics.items()}
    assert {"psnr", "latent_square"} < found.keys()
    expected = found["reconstruction"] + 1e-2 * found["kl"] / 192 + 0.5 * found["perceptual"]
    expected += 0.25 * found["adversarial"] + found["discriminator"]
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
    gap = 0.25 * early.metrics["adversarial"].total + early.metrics["discriminator"].total
    np.testing.assert_allclose(late.total - early.total, gap, rtol=1e-4)


@pytest.mark.slow
def test_a_discriminator_and_what_it_judges_do_not_learn_from_the_same_term():
    model, batch = spread(build_autoencoder(JUDGED)), pictures(4)

    @jax.jit
    def gradients(model):
        def of_pictures(model):
            return -jnp.sum(model.judge(model(batch).centre, is_fixed=True))

        def of_discriminator(model):
            return jnp.sum(model.judge(jax.lax.stop_gradient(model(batch).centre)))

        return jax.grad(of_pictures)(model), jax.grad(of_discriminator)(model)

    parts = [
        {name.split(".")[0] for name, one in named_parameters(found) if np.any(one[...])}
        for found in gradients(model)
    ]
    assert parts == [{"encoder", "moments", "of_latents", "decoder"}, {"discriminator"}]


def test_features_differ_where_pictures_do():
    values = jnp.asarray(pictures(2, 16).values, jnp.float32) / 127.5 - 1
    blurred = (values + jnp.roll(values, 1, 1) + jnp.roll(values, 1, 2)) / 3
    assert np.all(perceptual_distance(values, values) == 0)
    near, far = (
        perceptual_distance(values, 0.9 * values + 0.1 * blurred),
        perceptual_distance(values, blurred),
    )
    assert near.shape == (2,) and np.all(near > 0) and np.all(near < far)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [MeshConfig(data=8), MeshConfig(data=2, fsdp=4)])
def test_losses_and_gradients_are_the_same_on_meshes(shape):
    def gradient(mesh):
        with jax.set_mesh(mesh):
            model = spread(build_autoencoder(JUDGED))
            batch = put_batch(pictures(), mesh, model.layout.rules)

            def loss(model):
                return OBJECTIVE(model, batch, jax.random.key(0)).total

            value, found = jax.jit(jax.value_and_grad(loss))(model)
            return value, {path: np.asarray(p[...]) for path, p in named_parameters(found)}

    (value, expected), (again, found) = gradient(one_device_mesh()), gradient(make_mesh(shape))
    np.testing.assert_allclose(again, value, rtol=1e-5)
    for path, one in expected.items():
        assert np.abs(found[path] - one).max() < 1e-4 * np.abs(one).max() + 1e-5, path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KlAutoencoderConfig(size=100), "a multiple of 8"),
        (lambda: KlAutoencoderConfig(width=16), "do not divide"),
        (lambda: KlAutoencoderConfig(multipliers=()), "is empty"),
        (lambda: SMALL.batch_spec(batch_size=1, length=4), r"set train\.length=1"),
        (lambda: SMALL.batch_spec(batch_size=1, length=1, source_length=2), "leave it out"),
        (lambda: OBJECTIVE(build_autoencoder(SMALL), pictures(2)), "discriminator=64"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_mesh_that_splits_the_length_is_refused():
    with (
        jax.set_mesh(make_mesh(MeshConfig(data=4, sequence=2))),
        pytest.raises(ShardingError, match=r"set mesh\.sequence=1"),
    ):
        build_autoencoder(SMALL)
