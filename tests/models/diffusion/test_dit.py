"""The diffusion transformer: counts, its formula in numpy, meshes, and refusals."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.denoisers import (
    DITS,
    abstract_denoiser,
    build_denoiser,
    denoise,
    dit_stack,
    inputs_of,
    on_mesh,
    tiny_dit,
    without,
)

from jaxgen.errors import ConfigError, DataError
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.diffusion.base import Denoiser, DenoiserConfig
from jaxgen.models.diffusion.embedders import time_waves
from jaxgen.models.diffusion.patching import grid_waves, picture_of_patches
from jaxgen.models.parameters import named_parameters, number_of_parameters
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.patches import image_patches
from jaxgen.planning.work import read_work
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh

PUBLISHED = {
    "S": (12, 384, 6, 32.9, 6.06),
    "B": (12, 768, 12, 130.3, 23.01),
    "L": (24, 1024, 16, 457.8, 80.71),
    "XL": (28, 1152, 16, 674.8, 118.64),
}
"""Blocks, width, heads, millions of parameters, billions of multiply-adds (2212.09748, table 4)."""


@pytest.mark.parametrize("name", DITS)
def test_counts_equal_the_real_tree(name):
    config = DITS[name]
    model = abstract_denoiser(config)
    assert isinstance(config, DenoiserConfig)
    assert isinstance(model, Denoiser)
    count = config.count_denoiser()
    assert count.total == count.active == number_of_parameters(model)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_members_have_their_counts(name):
    layers, embed, heads, millions, operations = PUBLISHED[name]
    stack = dit_stack(num_layers=layers, embed_dim=embed, num_heads=heads, mlp_dim=4 * embed)
    config = tiny_dit(stack=stack, size=32, channels=4, pooled_dim=embed)
    labels = 1001 * embed  # A thousand classes and one of none; they are of the conditioner.
    assert abs((config.count_denoiser().total + labels) / 1e6 - millions) < 0.06
    # The paper's counter leaves out a few vectors.
    assert abs(config.picture_flops(0) / 2e9 / operations - 1) < 1e-3


@pytest.mark.parametrize("name", DITS)
def test_flops_are_those_of_the_compiled_program(name, monkeypatch):
    monkeypatch.setattr("jaxgen.ops.attention.dense.QUERY_CHUNKS", 1)
    config = DITS[name]
    inputs = inputs_of(config, batch=4)
    program = jax.jit(denoise).lower(abstract_denoiser(config), *inputs).compile().as_text()
    assert program is not None
    assert abs(read_work(program, {}).flops / (4 * config.picture_flops(5)) - 1) < 0.01


@pytest.mark.slow
def test_a_network_begins_at_zero_and_its_blocks_as_the_identity():
    config = tiny_dit()
    with using(Layout()):
        model = config.build_denoiser(nnx.Rngs(0))
    prediction = denoise(model, *inputs_of(config))
    assert prediction.shape == (3, 8, 8, 6)
    assert not prediction.any()
    gates = [p for name, p in named_parameters(model) if "blocks.0.modulation" in name]
    assert len(gates) == 2
    assert not any(p[...].any() for p in gates)


def silu(x):
    return x / (1 + np.exp(-x))


def layer_norm(x, epsilon=1e-6):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def position(side, embed):
    """The fixed position of each patch, one number at a time."""
    table = np.zeros((side * side, embed))
    for row in range(side):
        for column in range(side):
            for half, place in enumerate((column, row)):
                for i in range(embed // 4):
                    angle = place / 10_000 ** (i / (embed // 4))
                    start = half * embed // 2
                    table[row * side + column, start + i] = math.sin(angle)
                    table[row * side + column, start + embed // 4 + i] = math.cos(angle)
    return table


def test_the_formula_in_numpy():
    config = tiny_dit()
    model = build_denoiser(config)
    x, time, conditioning = inputs_of(config)
    p = {name: np.asarray(one[...], np.float64) for name, one in named_parameters(model)}
    embed, side, size = 32, 4, 2
    frequencies = 10_000.0 ** (-np.arange(128) / 128)
    angles = np.asarray(time, np.float64)[:, None] * frequencies
    waves = np.concatenate([np.cos(angles), np.sin(angles)], -1)
    vector = silu(waves @ p["time.layers.first"] + p["time.layers.first_bias"])
    vector = vector @ p["time.layers.second"] + p["time.layers.second_bias"]
    vector = silu(vector + np.asarray(conditioning.pooled, np.float64))
    picture = np.asarray(x, np.float64)
    patches = np.stack(
        [
            picture[:, r * size : (r + 1) * size, c * size : (c + 1) * size].reshape(3, -1)
            for r in range(side)
            for c in range(side)
        ],
        axis=1,
    )
    h = patches @ p["patches.weight"].reshape(12, 32) + p["patches.bias"] + position(side, embed)

    def modulation(prefix, parts, at: Any = ...):
        y = vector @ p[f"{prefix}.weight"][at] + p[f"{prefix}.bias"][at]
        return [part[:, None] for part in np.split(y, parts, axis=-1)]

    block = "stack.groups.0.blocks.0."
    for layer in range(2):

        def of(name, layer=layer):
            return p[block + name][layer]

        shift, scale, gate, wide_shift, wide_scale, wide_gate = modulation(
            block + "modulation", 6, layer
        )
        y = layer_norm(h) * (1 + scale) + shift
        heads = {
            name: np.einsum("btd,dhw->bhtw", y, of(f"attention.{name}"))
            + of(f"attention.{name}_bias")[:, None]
            for name in ("query", "key", "value")
        }
        scores = np.einsum("bhtw,bhsw->bhts", heads["query"], heads["key"]) / math.sqrt(8)
        mixed = np.einsum("bhts,bhsw->bthw", softmax(scores), heads["value"])
        y = np.einsum("bthw,hwd->btd", mixed, of("attention.out")) + of("attention.out_bias")
        h = h + gate * y
        y = layer_norm(h) * (1 + wide_scale) + wide_shift
        y = gelu_tanh(y @ of("feed_forward.up") + of("feed_forward.up_bias"))
        h = h + wide_gate * (y @ of("feed_forward.down") + of("feed_forward.down_bias"))
    shift, scale = modulation("modulation", 2)
    y = (layer_norm(h) * (1 + scale) + shift) @ p["out"] + p["out_bias"]
    expected = np.zeros((3, 8, 8, 6))
    for number in range(side * side):
        r, c = divmod(number, side)
        cell = y[:, number].reshape(3, size, size, 6)
        expected[:, r * size : (r + 1) * size, c * size : (c + 1) * size] = cell
    found = denoise(model, x, time, conditioning)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


def test_patches_become_the_picture_that_they_were_cut_from():
    picture = jax.random.normal(jax.random.key(0), (2, 12, 12, 3))
    np.testing.assert_array_equal(picture_of_patches(image_patches(picture, 4), 3, 4), picture)


def test_waves():
    time = jnp.array([0.0, 3.0])
    with_last = time_waves(time, 8, shift=1)
    np.testing.assert_allclose(with_last[0], [1, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(with_last[1, 3], math.cos(3e-4), rtol=1e-6)
    np.testing.assert_allclose(grid_waves(3, 16), position(3, 16), atol=1e-6)


MESHES = {
    "pixart": (MeshConfig(data=2, fsdp=2, tensor=2), 0.1),
    "jit": (MeshConfig(fsdp=4, tensor=2), 0.1),
    # Pipeline stages draw dropout by the microbatch.
    "dit": (MeshConfig(data=4, stage=2), 0.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_meshes_and_recomputation_change_rounding_alone(name):
    (mesh, dropout), config = MESHES[name], DITS[name]
    config = dataclasses.replace(config, stack=dataclasses.replace(config.stack, dropout=dropout))
    inputs = inputs_of(config, batch=8)

    def loss(model, layout):
        key = jax.random.key(5)
        return (denoise(model, *inputs, key=key, layout=layout) ** 2).mean()

    model = build_denoiser(config)
    value, gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)(model, Layout())
    layout = Layout(remat="full")
    with jax.set_mesh(make_mesh(mesh)):
        model = on_mesh(config, model, layout)
        found = jax.jit(jax.value_and_grad(loss), static_argnums=1)(model, layout)
    np.testing.assert_allclose(value, found[0], rtol=1e-5)
    pairs = zip(named_parameters(gradient), named_parameters(found[1]), strict=True)
    for (path, a), (_, b) in pairs:
        # Keys' biases have no gradient but rounding.
        tolerance = 2e-4 * np.abs(a[...]).max() + 1e-7
        np.testing.assert_allclose(a[...], b[...], rtol=0, atol=tolerance, err_msg=path)


@pytest.mark.slow
def test_every_part_of_the_conditioning_is_read():
    for name, config in DITS.items():
        model = build_denoiser(config)
        x, time, conditioning = inputs_of(config)
        run = jax.jit(denoise)
        expected = run(model, x, time, conditioning)
        assert np.abs(run(model, x, time + 40, conditioning) - expected).max() > 1e-3
        for field in ("sequence", "pooled", "image", "time"):
            value = getattr(conditioning, field)
            if value is not None:
                other = run(model, x, time, without(conditioning, **{field: value + 1}))
                assert np.abs(other - expected).max() > 1e-3, (name, field)


def test_what_is_masked_is_not_read():
    config = DITS["pixart"]
    model = build_denoiser(config)
    x, time, conditioning = inputs_of(config)
    short = without(
        conditioning, sequence=conditioning.sequence[:, :2], mask=jnp.ones((3, 2), bool)
    )
    long = without(conditioning, mask=jnp.broadcast_to(jnp.arange(5) < 2, (3, 5)))
    np.testing.assert_allclose(
        denoise(model, x, time, short), denoise(model, x, time, long), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 9}, "dit.size=9 is not divided"),
        ({"stack": dit_stack(layers=(LayerConfig(rope=None),))}, "are causal"),
        ({"stack": dit_stack(norm_placement="post")}, "normalises before"),
        ({"stack": dit_stack(moe=MoEConfig(2, 1, mlp_dim=8))}, "moe=None"),
        ({"stack": dit_stack(embed_dim=30, num_heads=3)}, "that 4 divides"),
        ({"pooled_dim": 24}, "dit.pooled_dim=24"),
        ({"pooled_dim": None, "pooled_layers": True}, "needs dit.pooled_dim"),
    ],
)
def test_what_makes_no_network_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny_dit(**changes)


@pytest.mark.parametrize(
    ("name", "field"), [("pixart", "sequence"), ("dit", "pooled"), ("upsampling", "image")]
)
def test_conditioning_that_lacks_something_is_refused(name, field):
    config = DITS[name]
    x, time, conditioning = inputs_of(config)
    with pytest.raises(DataError, match=field):
        denoise(build_denoiser(config), x, time, without(conditioning, **{field: None}))
