"""U-Nets: exact counts, operations, what each part reads, meshes, and refusals."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.helpers import one_device_mesh, spread
from support.unets import SMALL, UNETS, build_unet, random_inputs, run_unet

from jaxgen.errors import ConfigError
from jaxgen.models.diffusion.base import Conditioning, Denoiser, DenoiserConfig
from jaxgen.models.diffusion.unet_config import UNetConfig
from jaxgen.models.parameters import named_parameters, number_of_parameters
from jaxgen.ops.normalisation import group_normalise
from jaxgen.planning.work import read_work
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules

LATENT: dict[str, Any] = {"size": 64, "channels": 4, "out_channels": 4, "width": 320}
PUBLISHED = {
    "stable_diffusion_1": (
        UNetConfig(
            **LATENT, multipliers=(1, 2, 4, 4),
            attention=("transformer", "transformer", "transformer", None),
            middle_attention="transformer", num_heads=8, head_dim=None, context_dim=768,
        ),
        859_520_964,
    ),
    "stable_diffusion_2": (
        UNetConfig(
            **LATENT, multipliers=(1, 2, 4, 4),
            attention=("transformer", "transformer", "transformer", None),
            middle_attention="transformer", head_dim=64, context_dim=1024,
        ),
        865_910_724,
    ),
    "stable_diffusion_xl": (
        UNetConfig(
            **LATENT, multipliers=(1, 2, 4), attention=(None, "transformer", "transformer"),
            middle_attention="transformer", head_dim=64, context_dim=2048,
            transformer_depth=(1, 2, 10), pooled_dim=2816, pooled_join="layers",
        ),
        2_567_463_684,
    ),
    # Without the table of 1,000 classes, 768,000 more.
    "adm_64": (
        UNetConfig(
            size=64, out_channels=6, width=192, multipliers=(1, 2, 3, 4), blocks=(3,),
            attention=(None, "self", "self", "self"), scale_shift=True, resampling="blocks",
            pooled_dim=768, pooled_join="add",
        ),
        295_136_454,
    ),
}  # fmt: skip
LAYOUT = Layout(Rules(length=None))
MESHES_OF_UNETS = {
    "split": MeshConfig(data=2, fsdp=2, tensor=2),
    "data": MeshConfig(data=4, fsdp=2),
}


def abstract(config):
    with using(Layout()):
        return jax.eval_shape(lambda: config.build_denoiser(nnx.Rngs(0)))


@pytest.mark.parametrize("name", UNETS)
def test_counts_equal_the_real_tree(name):
    count = UNETS[name].count_denoiser()
    assert count.total == count.active == number_of_parameters(abstract(UNETS[name]))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_are_exact(name):
    config, count = PUBLISHED[name]
    assert config.count_denoiser().total == count


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_trees_have_them(name):
    config, count = PUBLISHED[name]
    assert number_of_parameters(abstract(config)) == count


@pytest.mark.parametrize("name", UNETS)
def test_flops_are_those_of_the_compiled_program(name):
    config = dataclasses.replace(UNETS[name], size=32)
    model, inputs = abstract(config), random_inputs(config, 2)
    program = jax.jit(run_unet).lower(model, inputs).compile().as_text()
    assert program is not None
    found = read_work(program, {}).flops / (2 * config.picture_flops(5))
    # Borders are counted whole: 1 in 16 of a 3x3 window is outside of 16 rows.
    assert 0.9 < found < 1.01


@pytest.mark.slow
@pytest.mark.parametrize("name", UNETS)
def test_it_is_a_denoiser_that_reads_all_that_it_is_told(name):
    config = UNETS[name]
    assert isinstance(config, DenoiserConfig)
    fresh, inputs = build_unet(config), random_inputs(config)
    assert isinstance(fresh, Denoiser)
    run = jax.jit(run_unet)
    prediction = run(fresh, inputs)
    assert prediction.shape == (4, 8, 8, config.out_channels)
    assert prediction.dtype == jnp.float32 and not np.any(prediction)  # It begins at zero.
    model = spread(fresh)
    before = run(model, inputs)
    x, time, told = inputs
    assert not np.allclose(before, run(model, (x, time + 1, told)), atol=1e-5)
    for field in dataclasses.fields(Conditioning):
        value = getattr(told, field.name)
        if value is not None and field.name != "mask":
            other = dataclasses.replace(told, **{field.name: jnp.flip(value, -1)})
            assert not np.allclose(before, run(model, (x, time, other)), atol=1e-5), field.name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unclip", "latent", "imagen"])
def test_tokens_that_are_not_there_are_not_read(name):
    config = UNETS[name]
    model = spread(build_unet(config))
    x, time, told = random_inputs(config)
    noise = jnp.where(told.mask[..., None], told.sequence, 7.0)
    other = dataclasses.replace(told, sequence=noise)
    run = jax.jit(run_unet)
    np.testing.assert_array_equal(run(model, (x, time, told)), run(model, (x, time, other)))
    first = jax.tree.map(lambda leaf: leaf[:1], (x, time, told))
    whole = run(model, (x, time, told))[:1]
    np.testing.assert_allclose(run(model, first), whole, atol=2e-5)


def test_a_norm_is_over_places_and_the_channels_of_a_group():
    x = np.random.default_rng(0).normal(3, 2, (2, 4, 6, 12)).astype(np.float32)
    parts = x.reshape(2, 24, 3, 4)
    mean, variance = (f(parts, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    expected = ((parts - mean) / np.sqrt(variance + 1e-3)).reshape(x.shape)
    np.testing.assert_allclose(group_normalise(jnp.asarray(x), 3, 1e-3), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adm", "latent"])
def test_dropout_is_of_training_passes_alone(name):
    model, inputs = spread(build_unet(UNETS[name])), random_inputs(UNETS[name])
    run = jax.jit(run_unet)
    first, again, other = (run(model, inputs, jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other) and not np.allclose(first, run(model, inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", UNETS)
def test_bfloat16_is_near(name):
    config = UNETS[name]
    rounded = dataclasses.replace(config, compute_dtype="bfloat16")
    inputs, run = random_inputs(config), jax.jit(run_unet)
    exact, found = (np.asarray(run(spread(build_unet(one)), inputs)) for one in (config, rounded))
    assert 0 < np.abs(found - exact).max() < 0.08 * np.abs(exact).max()


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["split", "data"])
@pytest.mark.parametrize("name", ["imagen", "adm", "unclip", "latent"])
def test_gradients_are_the_same_on_meshes_and_where_blocks_are_computed_again(name, mesh):
    config, mesh = UNETS[name], MESHES_OF_UNETS[mesh]
    inputs, key = random_inputs(config, 8), jax.random.key(0)

    def gradient(layout, mesh):
        with jax.set_mesh(mesh):
            model = spread(build_unet(config, layout))
            rows = layout.rules.activation("batch")
            split = jax.tree.map(lambda x: jax.device_put(x, jax.NamedSharding(mesh, rows)), inputs)

            def loss(model):
                return jnp.mean(jnp.square(run_unet(model, split, key, layout)))

            value, found = jax.jit(jax.value_and_grad(loss))(model)
            return value, {path: np.asarray(p[...]) for path, p in named_parameters(found)}

    value, expected = gradient(LAYOUT, one_device_mesh())
    again, found = gradient(dataclasses.replace(LAYOUT, remat="full"), make_mesh(mesh))
    np.testing.assert_allclose(again, value, rtol=1e-5)
    for path, one in expected.items():
        assert np.abs(found[path] - one).max() < 1e-4 * np.abs(one).max() + 1e-6, path
    assert all(map(np.any, expected.values()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"multipliers": ()}, "multipliers is empty"),
        ({"blocks": (1, 2, 3)}, "one for each level, or one for all"),
        ({"size": 9}, "a multiple of 2"),
        ({"norm_groups": 7}, "do not divide"),
        ({"order": "efficient"}, "set unet.middle_attention=None"),
        (
            {"order": "efficient", "middle_attention": None, "resampling": "blocks"},
            "set unet.resampling='convolution'",
        ),
        ({"head_dim": None}, "give one of them"),
        ({"head_dim": 12}, "unet.head_dim=12 does not divide"),
        ({"attention": ("joint",)}, "give unet.context_dim"),
        ({"context_dim": 4}, "no attention reads a sequence"),
        ({"pooled_tokens": 2}, "give unet.pooled_dim and unet.context_dim"),
        ({"pooled_dim": 8, "pooled_join": "add"}, "has 64"),
        ({"context_norm": True}, "needs unet.context_dim"),
        ({"image_time": True}, "give unet.image_channels"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        UNetConfig(**SMALL | {"head_dim": 8} | changes)


@pytest.mark.slow
def test_a_network_that_is_not_told_what_it_reads_says_so():
    config = UNETS["unclip"]
    x, time, _ = random_inputs(config)
    with pytest.raises(ConfigError, match=r"unet\.context_dim=12.*Conditioning\.sequence"):
        run_unet(build_unet(config), (x, time, Conditioning()))
