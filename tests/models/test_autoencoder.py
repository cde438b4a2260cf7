"""Autoencoders: counts, parts against numpy, codes that come back, and refusals."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.autoencoders import AUTOENCODERS, SMALL, build_autoencoder, random_media
from support.helpers import spread

from jaxgen.commands.models import load_model
from jaxgen.errors import ConfigError, ShardingError
from jaxgen.models.base import abstract_model
from jaxgen.models.bottleneck import FiniteScalar, GumbelCodebook
from jaxgen.models.image_autoencoder_config import ImageAutoencoderConfig
from jaxgen.models.parameters import named_parameters, number_of_parameters
from jaxgen.models.sound_autoencoder_config import SoundAutoencoderConfig
from jaxgen.ops.convolution import into_patches, max_pool, out_of_patches, overlap_add, repeat
from jaxgen.planning.work import read_work
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.optimizers.matrices import decayed, sides_of

CODECS = ["dalle_dvae", "dalle_dvae_tiny", "fsq_images", "fsq_sound"]


@pytest.mark.parametrize("name", [*AUTOENCODERS, *CODECS])
def test_counts_equal_the_real_tree(name):
    config = AUTOENCODERS[name] if name in AUTOENCODERS else load_model(f"codecs/{name}")
    count = config.count()
    assert count.total == count.active == number_of_parameters(abstract_model(config))


def test_the_discrete_vae_has_the_published_shapes():
    """Counted by hand from the layout of 2102.12092, A.2."""

    def block(n_in, n_out, kernels):
        inner, total = n_out // 4, (n_in + 1) * n_out if n_in != n_out else 0
        widths = [n_in, inner, inner, inner, n_out]
        return total + sum(
            (k * k * a + 1) * b for k, a, b in zip(kernels, widths, widths[1:], strict=False)
        )

    h = 256
    encoder = (7 * 7 * 3 + 1) * h + (8 * h + 1) * 8192
    decoder = (8192 + 1) * 128 + (h + 1) * 6
    before, after = h, 128
    for width in (h, 2 * h, 4 * h, 8 * h):
        encoder += block(before, width, (3, 3, 3, 1)) + block(width, width, (3, 3, 3, 1))
        before = width
    for width in (8 * h, 4 * h, 2 * h, h):
        decoder += block(after, width, (1, 3, 3, 3)) + block(width, width, (1, 3, 3, 3))
        after = width
    config = load_model("codecs/dalle_dvae")
    assert (encoder, decoder) == (53_786_240, 43_829_766)
    assert config.count().total == encoder + decoder
    assert config.grid == (1, 32, 32) and config.num_codes == 8192


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_flops_are_those_of_the_compiled_program(name):
    config = AUTOENCODERS[name]
    model, batch = abstract_model(config), random_media(config, 4)
    program = jax.jit(lambda model, batch: model(batch)).lower(model, batch).compile().as_text()
    assert program is not None
    length = config.max_length
    found = read_work(program, {}).flops / (4 * length * config.flops(length) / 3)
    # Borders are counted whole, and of small pictures there are many.
    assert 0.55 < found < 1.05


@pytest.mark.slow
@pytest.mark.parametrize("name", AUTOENCODERS)
def test_codes_come_back_and_depend_on_no_other_row(name):
    config = AUTOENCODERS[name]
    model, batch = spread(build_autoencoder(config)), random_media(config)
    output = jax.jit(lambda model, batch: model(batch))(model, batch)
    assert output.codes.shape == (8, config.max_length)
    assert len(np.unique(output.codes)) > 3 and output.codes.max() < config.num_codes
    encode, decode = jax.jit(type(model).encode), jax.jit(type(model).decode)
    np.testing.assert_array_equal(encode(model, batch.values), output.codes)
    np.testing.assert_array_equal(encode(model, batch.values[3:4])[0], output.codes[3])
    np.testing.assert_allclose(decode(model, output.codes), output.made, atol=1e-5)
    assert output.made.shape == batch.values.shape


@pytest.mark.slow
def test_codes_lie_by_row_and_column():
    """A change of the last patch, with an encoder of patches alone, changes the last code alone."""
    config = dataclasses.replace(AUTOENCODERS["fsq"], groups=(1,), encoder_kernel=1, first_kernel=1)
    model, values = spread(build_autoencoder(config)), random_media(config).values
    other = values.copy()
    other[:, 2:4, 4:6] = 255 - other[:, 2:4, 4:6]
    first, second = (np.asarray(model.encode(jnp.asarray(x))) for x in (values, other))
    assert set(np.nonzero(first != second)[1].tolist()) == {1 * 8 + 2}


@pytest.mark.slow
def test_a_sound_of_another_length_has_as_many_frames():
    config: Any = AUTOENCODERS["sound"]
    model = build_autoencoder(config)
    codes = model.encode(jnp.zeros((2, 10 * config.frame)))
    assert codes.shape == (2, 20)
    assert model.decode(codes).shape == (2, 10 * config.frame)


def test_frames_that_overlap_add_up_to_the_sound():
    sound = np.random.default_rng(0).normal(size=(2, 96)).astype(np.float32)
    window = np.sin(np.pi * (np.arange(12) + 0.5) / 12) ** 2  # Of which halves sum to 1.
    frames = np.stack([sound[:, at : at + 12] for at in range(0, 96 - 11, 6)], 1) * window
    found = np.asarray(overlap_add(jnp.asarray(frames, jnp.float32), 6))
    np.testing.assert_allclose(found[:, 6:-6], sound[:, 6:-6], atol=1e-6)
    thirds = np.asarray(overlap_add(jnp.ones((1, 4, 6)), 2))
    np.testing.assert_array_equal(thirds[0], [1, 1, 2, 2, 3, 3, 3, 3, 2, 2, 1, 1])


def test_changes_of_resolution_against_numpy():
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    expected = x.reshape(2, 2, 2, 3, 2, 3).max(axis=(2, 4))
    np.testing.assert_array_equal(max_pool(jnp.asarray(x)), expected)
    np.testing.assert_array_equal(repeat(jnp.asarray(x)), x.repeat(2, 1).repeat(2, 2))
    patches = np.asarray(into_patches(jnp.asarray(x), 2))
    np.testing.assert_array_equal(patches[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(out_of_patches(jnp.asarray(patches), 2), x)


@pytest.mark.slow
def test_draws_of_a_codebook_are_as_likely_as_the_softmax_says():
    """The largest weight is a draw, at any temperature (1611.01144)."""
    logits = jnp.log(jnp.array([0.1, 0.2, 0.3, 0.4]))
    for temperature in (1.0, 0.1):
        drawn = GumbelCodebook(4).quantise(
            jnp.tile(logits, (20_000, 1)), jax.random.key(3), temperature
        )
        np.testing.assert_allclose(jnp.sum(drawn.vectors, axis=-1), 1, rtol=1e-5)
        counts = np.bincount(np.argmax(drawn.vectors, axis=-1), minlength=4)
        np.testing.assert_allclose(counts / 20_000, [0.1, 0.2, 0.3, 0.4], atol=0.015)
    sharp, soft = (
        GumbelCodebook(4).quantise(jnp.tile(logits, (500, 1)), jax.random.key(0), one).vectors
        for one in (0.05, 5.0)
    )
    assert np.mean(np.max(sharp, -1) > 0.99) > 0.8 and np.max(soft) < 0.9
    still = GumbelCodebook(4).quantise(logits, None, 1.0)
    np.testing.assert_array_equal(still.vectors, [0, 0, 0, 1])
    p = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(still.kl, np.log(4) + np.sum(p * np.log(p)), rtol=1e-5)


def test_every_code_has_a_vector_that_is_quantised_to_itself():
    bottleneck = FiniteScalar((5, 4, 3))
    codes = jnp.arange(60)
    vectors = bottleneck.vectors_of(codes)
    half = np.array([2, 2, 1])
    reach = np.array([4, 3, 2]) * 1.001 / 2
    offset = np.array([0, 0.5, 0])
    raw = np.arctanh((np.asarray(vectors) * half + offset) / reach) - np.arctanh(offset / reach)
    found = bottleneck.quantise(jnp.asarray(raw, jnp.float32), None, 1.0)
    np.testing.assert_array_equal(found.codes, codes)
    assert found.kl is None


def test_kernels_are_matrices_to_optimizers():
    model = abstract_model(AUTOENCODERS["dvae"])
    named = dict(named_parameters(model))
    assert sides_of(named["first.weight"]).sides == (7 * 7 * 3, 16)
    decays = {path for path, p in named_parameters(decayed(model)) if p.get_value()}
    assert {"first.weight", "to_codes.weight", "last.weight"} <= decays
    assert not any(path.endswith("bias") for path in decays)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImageAutoencoderConfig(**SMALL, height=18, width=16, patch=2), "multiples of 4"),
        (lambda: ImageAutoencoderConfig(hidden=6, groups=(1,)), "multiple of 4"),
        (lambda: ImageAutoencoderConfig(output="logit_laplace"), "margin to 0.1"),
        (lambda: SoundAutoencoderConfig(hop=32, window=80), "such as 64"),
        (lambda: SoundAutoencoderConfig(**SMALL, hop=32, samples=2000), "use 2048"),
        (lambda: FiniteScalar((8, 1)), "2 levels"),
        (lambda: FiniteScalar((1000,) * 4), "more codes"),
        (lambda: GumbelCodebook(1), "2 or more"),
        (lambda: AUTOENCODERS["fsq"].batch_spec(batch_size=1, length=7), r"set train.length=8"),
        (
            lambda: AUTOENCODERS["fsq"].batch_spec(batch_size=1, length=8, source_length=4),
            "leave it out",
        ),
        (lambda: AUTOENCODERS["fsq"].restored({}), "is missing, not float32"),
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
        build_autoencoder(AUTOENCODERS["fsq"])
