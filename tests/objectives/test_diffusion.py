"""The loss of diffusion: against closed forms, over microbatches and meshes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.known_denoisers import LinearConfig

from jaxgen.errors import ConfigError
from jaxgen.media_batch import MediaBatch
from jaxgen.models.diffusion.conditioner_configs import ClassLabelsConfig
from jaxgen.models.diffusion.config import DiffusionConfig, Upsampling
from jaxgen.objectives.diffusion import DiffusionLoss, strata
from jaxgen.ops.diffusion.betas import Betas
from jaxgen.ops.diffusion.corruption import Corruption
from jaxgen.ops.diffusion.schedules import Cosine, RectifiedFlow
from jaxgen.ops.diffusion.variances import bound_terms, discretised_log_probability, posterior
from jaxgen.pair_batch import PairBatch
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh


def pictures(rows=8, size=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, size, size, 3), np.uint8)


def build(**settings) -> Any:
    config = DiffusionConfig(**{"denoiser": LinearConfig(), **settings})
    return config.build(nnx.Rngs(0), Layout())


class Knows:
    """A model of pictures that are all one: it knows x, and says so in any target."""

    layout = Layout()

    def __init__(self, value, corruption, error=0.0):
        self.value, self.corruption, self.error = value, corruption, error

    def clean(self, batch, key=None):
        return jnp.full((len(batch.values), 4, 4, 3), self.value)

    def predict(self, x_t, time, batch, key=None):
        alpha, sigma = self.corruption.schedule.alpha_sigma(time / 1000)
        alpha, sigma = (one[:, None, None, None] for one in (alpha, sigma))
        noise = (x_t - alpha * self.value) / sigma
        return alpha * noise - sigma * self.value + self.error


def test_a_model_that_knows_the_picture_has_no_loss():
    corruption = Corruption(Cosine(), "v")
    batch = MediaBatch(pictures())
    loss = DiffusionLoss(corruption)(Knows(0.3, corruption), batch, jax.random.key(0))
    assert loss.total / loss.weight < 1e-9
    wrong = DiffusionLoss(corruption)(Knows(0.3, corruption, 0.5), batch, jax.random.key(0))
    assert wrong.total / wrong.weight == pytest.approx(0.25, rel=1e-4)
    parts = wrong.metrics["by_noise"]
    assert parts.labels == ("1", "2", "3", "4")
    np.testing.assert_allclose(parts.total / parts.weight, 0.25, rtol=1e-4)
    np.testing.assert_allclose(parts.weight, 2)


def test_times_are_spread_evenly():
    """Each row's is in a stratum of its own; in evaluation they are the middles."""
    drawn = np.sort(strata(jax.random.key(0), 64, True))
    assert (np.floor(drawn * 64) == np.arange(64)).all()
    np.testing.assert_allclose(strata(jax.random.key(0), 4, False), [0.125, 0.375, 0.625, 0.875])


def test_evaluation_is_the_same_every_time():
    model, batch = build(), MediaBatch(pictures())
    objective = DiffusionLoss()
    assert objective(model, batch).total == objective(model, batch).total
    keys = [jax.random.key(number) for number in (0, 1)]
    assert objective(model, batch, keys[0]).total != objective(model, batch, keys[1]).total


@pytest.mark.slow
def test_a_mesh_computes_what_one_device_does():
    labels = ClassLabelsConfig(classes=5, embed_dim=8, drop=0.5)
    config = DiffusionConfig(
        denoiser=LinearConfig(pooled_dim=8, image_channels=3),
        conditioner=labels,
        upsampling=Upsampling(2),
    )
    tokens = np.arange(8, dtype=np.int32)[:, None] % 5
    batch = PairBatch(pictures(), tokens, np.ones(8, np.int32))
    objective = DiffusionLoss(Corruption(RectifiedFlow(), "flow"))

    def value_and_gradient(mesh):
        with jax.set_mesh(mesh):
            model = jax.jit(lambda: config.build(nnx.Rngs(0), Layout()))()

            def loss_fn(model):
                return objective(model, batch, jax.random.key(3)).total

            return jax.jit(jax.value_and_grad(loss_fn, allow_int=True))(model)

    one = value_and_gradient(make_mesh(MeshConfig(1), jax.devices()[:1]))
    many = value_and_gradient(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2)))
    for ours, theirs in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)


def test_dropped_prompts_are_the_class_of_none():
    model = build(
        denoiser=LinearConfig(pooled_dim=8), conditioner=ClassLabelsConfig(classes=3, embed_dim=8)
    )
    batch = PairBatch(pictures(3), np.array([[0], [1], [2]], np.int32), np.ones(3, np.int32))
    told = model.condition(prompts := _prompts(batch))
    untold = model.condition(prompts, False)
    table = model.conditioner.table[...]
    np.testing.assert_array_equal(told.pooled, table[:3])
    np.testing.assert_array_equal(untold.pooled, jnp.stack([table[3]] * 3))


def _prompts(batch):
    from jaxgen.models.diffusion.prompts import prompts_of

    return prompts_of(batch)


def test_channels_of_a_learned_variance_are_asked_for():
    objective = DiffusionLoss(Corruption(learned_variance=True))
    with pytest.raises(ConfigError, match="gives 3 channels for a picture of 3"):
        objective(build(), MediaBatch(pictures()), None)
    both = dataclasses.replace(LinearConfig(), out_channels=6)
    loss = objective(build(denoiser=both), MediaBatch(pictures()), None)
    assert np.isfinite(loss.metrics["bound"].total)


def test_the_bound_of_a_perfect_model_is_nil_but_for_its_first_step():
    """A network that knows x and takes the posterior's variance is the posterior."""
    betas = Betas()
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (6, 4, 4, 3)), jnp.float32)
    times = jnp.asarray([1.0, 10, 100, 500, 900, 999])
    alpha, sigma = (one[:, None, None, None] for one in betas.alpha_sigma(times))
    x_t = alpha * x + sigma * jax.random.normal(jax.random.key(0), x.shape)
    terms = bound_terms(betas, x, x_t, times, x, jnp.zeros_like(x))
    np.testing.assert_allclose(terms, 0, atol=1e-5)
    # With beta for a variance: 0.5 (r - 1 - log r) of the ratio r of the posterior's and beta.
    large = bound_terms(betas, x, x_t, times, x, jnp.ones_like(x))
    _, small, beta = posterior(betas, x, x_t, times)
    ratio = np.exp(np.asarray(small - beta)).ravel()
    np.testing.assert_allclose(large, 0.5 * (ratio - 1 - np.log(ratio)), rtol=1e-3, atol=1e-6)


def test_the_posterior_is_bayes_rule():
    """q(x_s | x_t, x) of two normals, multiplied on a grid of x_s."""
    betas, step = Betas(), 400
    x, x_t = 0.4, 0.9
    grid = np.linspace(-6, 6, 20_001)
    alpha, before = betas.alphas[step], betas.alphas[step - 1]
    forward = (x_t - alpha / before * grid) ** 2 / betas.betas[step]
    prior = (grid - before * x) ** 2 / (1 - before**2)
    density = np.exp(-(forward + prior) / 2)
    density /= density.sum()
    mean = (density * grid).sum()
    shape = (1, 1, 1, 1)
    found, log_variance, _ = posterior(
        betas, jnp.full(shape, x), jnp.full(shape, x_t), jnp.asarray([float(step)])
    )
    assert float(found[0, 0, 0, 0]) == pytest.approx(mean, rel=1e-4)
    variance = (density * (grid - mean) ** 2).sum()
    assert float(jnp.exp(log_variance)[0, 0, 0, 0]) == pytest.approx(variance, rel=1e-3)


def test_probabilities_of_pixels_add_to_one():
    values = jnp.arange(256) / 127.5 - 1
    for mean, scale in ((0.1, 0.05), (-0.99, 0.2), (0.7, 1.5)):
        found = discretised_log_probability(values, mean, jnp.log(scale))
        assert float(jnp.exp(found).sum()) == pytest.approx(1, abs=1e-4)
