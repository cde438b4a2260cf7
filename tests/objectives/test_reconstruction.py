"""The loss of autoencoders and its metrics, each against numpy, an integral or a closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import trapezoid
from support.autoencoders import AUTOENCODERS, build_autoencoder, random_media
from support.helpers import spread

from jaxgen.errors import ConfigError
from jaxgen.models.parameters import named_parameters
from jaxgen.objectives.base import at_step
from jaxgen.objectives.fidelity import code_shares, psnr, si_sdr
from jaxgen.objectives.reconstruction import Reconstruction
from jaxgen.ops.logit_laplace import into_margin, negative_log_density, out_of_margin
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import put_batch

DVAE = Reconstruction(
    "logit_laplace", kl_weight=2.0, kl_steps=10, temperature_steps=100, last_temperature=0.25
)
OBJECTIVES = {"fsq": Reconstruction("l1"), "dvae": DVAE, "sound": Reconstruction("l2")}


@pytest.mark.parametrize(("centre", "log_scale"), [(0.0, 0.0), (1.5, -1.0), (-3.0, 0.7)])
def test_the_logit_laplace_density_integrates_to_one(centre, log_scale):
    logits = np.linspace(centre - 60, centre + 60, 240_001)
    x = 1 / (1 + np.exp(-logits))
    with jax.enable_x64(True):
        density = np.exp(-np.asarray(negative_log_density(jnp.asarray(x), centre, log_scale)))
    area = density * x * (1 - x)  # dx is x (1 - x) times the step of the logit.
    is_inside = (x > 0) & (x < 1)
    assert abs(trapezoid(area[is_inside], logits[is_inside]) - 1) < 1e-4
    # The median of the logit is the centre.
    below = is_inside & (logits <= centre)
    assert abs(trapezoid(area[below], logits[below]) - 0.5) < 1e-4


def test_margins_keep_numbers_from_the_ends_and_are_undone():
    x = jnp.linspace(0, 1, 11)
    inside = into_margin(x, 0.1)
    assert float(inside.min()) == pytest.approx(0.1) and float(inside.max()) == pytest.approx(0.9)
    np.testing.assert_allclose(out_of_margin(inside, 0.1), x, atol=1e-6)
    np.testing.assert_allclose(out_of_margin(jnp.array([0.0, 1.0]), 0.1), [0, 1])


def test_psnr_of_a_known_error():
    values = jnp.full((3, 4, 4, 3), 0.5)
    made = values + jnp.array([0.1, 0.01, 0.0])[:, None, None, None]
    np.testing.assert_allclose(psnr(values, made), [20, 40, 100], atol=1e-3)


def test_si_sdr_ignores_scale_and_is_the_ratio_of_orthogonal_noise():
    random = np.random.default_rng(0)
    sound, noise = random.normal(size=(2, 4000))
    noise -= sound * (noise @ sound) / (sound @ sound)
    noise *= np.linalg.norm(sound) / np.linalg.norm(noise) * 10 ** (-15 / 20)
    made = jnp.asarray(np.stack([sound + noise, 3 * (sound + noise), -(sound + noise)]))
    values = jnp.asarray(np.stack([sound] * 3))
    np.testing.assert_allclose(si_sdr(values, made), [15, 15, 15], atol=1e-3)
    assert float(si_sdr(values[:1], values[:1])[0]) > 95
    assert float(si_sdr(values[:1], jnp.asarray(noise)[None])[0]) < -60
    np.testing.assert_array_equal(si_sdr(jnp.zeros((1, 9)), jnp.ones((1, 9))), [0])


def test_shares_of_codes():
    np.testing.assert_allclose(code_shares(jnp.array([[0, 2], [2, 2]]), 4), [0.25, 0, 0.75, 0])


def loss_of(name, objective=None, key=None, step=None):
    model = spread(build_autoencoder(AUTOENCODERS[name]))
    batch = random_media(AUTOENCODERS[name])
    one = OBJECTIVES[name] if objective is None else objective
    one = one if step is None else at_step(one, step)
    return one(model, batch, key), model(batch, key=key), batch


@pytest.mark.slow
def test_a_distance_is_a_mean_over_numbers_and_codes_are_told():
    loss, output, batch = loss_of("fsq")
    values = batch.values / 255
    expected = np.abs(values - output.centre).reshape(8, -1).mean(1).sum()
    np.testing.assert_allclose(loss.total, expected, rtol=1e-5)
    assert float(loss.weight) == 8 and set(loss.metrics) == {
        "loss", "reconstruction", "psnr", "codes_used", "code_nats"
    }  # fmt: skip
    counts = np.bincount(np.asarray(output.codes).ravel(), minlength=60)
    used, nats = loss.metrics["codes_used"], loss.metrics["code_nats"]
    assert float(used.total / used.weight) == pytest.approx((counts > 0).mean())
    p = counts[counts > 0] / counts.sum()
    assert float(nats.total / nats.weight) == pytest.approx(-(p * np.log(p)).sum(), rel=1e-4)


@pytest.mark.slow
def test_the_discrete_vae_loses_likelihood_and_divergence():
    (loss, output, _), (last, *_) = loss_of("dvae", step=5), loss_of("dvae")
    x, centre, scale = (np.asarray(one, np.float64) for one in (
        output.targets, output.centre, np.exp(output.log_scale)))  # fmt: skip
    logit = np.log(x / (1 - x))
    nats = np.abs(logit - centre) / scale + np.log(2 * scale * x * (1 - x))
    likelihood = nats.reshape(8, -1).mean(1).sum()
    kl = float(np.sum(output.kl))
    np.testing.assert_allclose(loss.total, likelihood + 2.0 * 0.5 * kl / 192, rtol=1e-4)
    np.testing.assert_allclose(last.total, likelihood + 2.0 * kl / 192, rtol=1e-4)
    assert kl > 0 and OBJECTIVES["dvae"].loss_unit == "nats/number"


@pytest.mark.slow
def test_the_temperature_falls_along_half_a_cosine():
    """Two steps have the same loss where, and only where, the temperature is the same."""
    objective = dataclasses.replace(DVAE, kl_weight=0.0)
    key = jax.random.key(0)
    half = dataclasses.replace(objective, temperature=0.625, temperature_steps=0)
    at_half = loss_of("dvae", objective, key, step=50)[0].total
    np.testing.assert_allclose(at_half, loss_of("dvae", half, key, step=0)[0].total, rtol=1e-6)
    ends = [loss_of("dvae", objective, key, step=one)[0].total for one in (0, 100, 1000)]
    assert abs(ends[0] - at_half) > 1e-4 * abs(at_half)
    np.testing.assert_allclose(ends[1], ends[2], rtol=1e-6)


@pytest.mark.slow
def test_a_likelihood_that_the_model_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="set the likelihood to 'l1' or 'l2'"):
        loss_of("fsq", Reconstruction("logit_laplace"))
    with pytest.raises(ConfigError, match="set the likelihood to 'logit_laplace'"):
        loss_of("dvae", Reconstruction("l1"))


def loss_and_gradients(name, mesh=None):
    config, objective = AUTOENCODERS[name], OBJECTIVES[name]
    one = make_mesh(MeshConfig(data=1), jax.devices()[:1]) if mesh is None else mesh
    with jax.set_mesh(one):
        model = build_autoencoder(config)
        batch = put_batch(random_media(config), one, Rules())

        def mean(model):
            loss = at_step(objective, jnp.int32(20))(model, batch, jax.random.key(1))
            return loss.total / loss.weight, loss.metrics

        (loss, metrics), gradients = jax.jit(jax.value_and_grad(mean, has_aux=True))(model)
    named = {path: np.asarray(p[...]) for path, p in named_parameters(gradients)}
    return float(loss), {key: float(one.total) for key, one in metrics.items()}, named


@pytest.mark.slow
@pytest.mark.parametrize("name", AUTOENCODERS)
def test_an_autoencoder_has_the_same_loss_and_gradients_on_a_mesh(name):
    loss, metrics, gradients = loss_and_gradients(name, make_mesh(MeshConfig(data=2, fsdp=4)))
    expected, expected_metrics, expected_gradients = loss_and_gradients(name)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for key, one in expected_metrics.items():
        np.testing.assert_allclose(metrics[key], one, rtol=1e-4)
    for path, gradient in gradients.items():
        np.testing.assert_allclose(
            gradient, expected_gradients[path], rtol=1e-3, atol=1e-5, err_msg=path
        )


def test_layouts_are_part_of_the_model():
    model = build_autoencoder(AUTOENCODERS["fsq"], Layout(rules=Rules(embed=None)))
    assert model.layout.rules.embed is None


def test_a_silent_output_is_as_far_from_a_sound_as_can_be():
    sound, silence = jnp.ones((1, 64)), jnp.zeros((1, 64))
    assert float(si_sdr(sound, silence)[0]) == pytest.approx(0, abs=1e-3)  # Neither part has power.
    assert float(si_sdr(sound, sound)[0]) == pytest.approx(100, abs=1e-3)
    wave = jnp.tile(jnp.array([1.0, -1.0]), 32)[None]
    assert float(si_sdr(sound, wave)[0]) == pytest.approx(-100, abs=1e-3)  # At right angles.
    assert float(si_sdr(silence, sound)[0]) == 0
