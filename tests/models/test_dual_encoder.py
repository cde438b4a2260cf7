"""The vision encoder and the contrastive pair: counts, parts against numpy, and refusals."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.helpers import spread
from support.pairs import PAIRS, SIZES, build_pair, random_pairs, tiny_clip, tiny_siglip

from jaxgen.codecs.patches import patches_of
from jaxgen.errors import ConfigError, ShardingError
from jaxgen.models.base import abstract_model
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.dual_encoder import DualEncoder
from jaxgen.models.parameters import named_parameters, number_of_parameters
from jaxgen.models.pooling import AttentionPool
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.patches import image_patches
from jaxgen.planning.work import read_work
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.optimizers.matrices import decayed, sides_of

VARIANTS = PAIRS | {
    "mean": tiny_clip(
        vision=dataclasses.replace(PAIRS["clip"].vision, pooling="mean", class_token=False)
    ),
    "gated_pool": tiny_siglip(
        vision=dataclasses.replace(
            PAIRS["siglip"].vision,
            stack=dataclasses.replace(
                PAIRS["siglip"].vision.stack, gated=True, biases=("norm",), num_kv_heads=2
            ),
        )
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_counts_equal_the_real_tree(name):
    config = VARIANTS[name]
    model = abstract_model(config)
    count = config.count()
    assert count.total == count.active == number_of_parameters(model)
    tables = ("text.embedding.table", "text.embedding.positions", "vision.positions")
    assert count.embedding == sum(
        np.prod(p.shape) for path, p in named_parameters(model) if path in tables
    )


@pytest.mark.parametrize("name", ["clip", "gated_pool"])
def test_flops_are_those_of_the_compiled_program(name, monkeypatch):
    monkeypatch.setattr("jaxgen.ops.attention.dense.QUERY_CHUNKS", 1)
    config = VARIANTS[name]
    model, batch = abstract_model(config), random_pairs(config, 4)
    program = jax.jit(lambda model, batch: model(batch)).lower(model, batch).compile().as_text()
    assert program is not None
    expected = 4 * 12 * config.flops(12) / 3
    assert abs(read_work(program, {}).flops / expected - 1) < 0.01


def test_patches_on_devices_are_those_of_the_codec():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    expected = [patches_of(image[None], (1, 4, 4)) for image in images]
    np.testing.assert_array_equal(image_patches(jnp.asarray(images), 4), expected)
    larger = jnp.pad(images, ((0, 0), (0, 3), (0, 1), (0, 0)))
    np.testing.assert_array_equal(image_patches(larger, 4), expected)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


@pytest.mark.slow
def test_attention_pooling_against_numpy():
    config = StackConfig(**SIZES, activation="relu")
    with using(Layout()):
        pool = spread(AttentionPool(config, nnx.Rngs(0)))
        hidden = np.random.default_rng(0).normal(size=(3, 5, 32)).astype(np.float32)
        segments = np.ones((3, 5), np.int32)
        segments[1, 3:] = 0
        found = np.asarray(pool(hidden, segments))
    of = {path: np.asarray(p[...], np.float64) for path, p in named_parameters(pool)}

    def heads(x, name):
        weight, bias = of[f"attention.{name}"], of[f"attention.{name}_bias"]
        return np.einsum("...d,dhw->...hw", x, weight) + bias

    query = heads(of["query"], "query") / np.sqrt(8)
    scores = np.einsum("hw,bthw->bht", query, heads(hidden, "key"))
    scores[np.broadcast_to(segments[:, None] == 0, scores.shape)] = -np.inf
    mixed = np.einsum("bht,bthw->bhw", softmax(scores), heads(hidden, "value"))
    x = np.einsum("bhw,hwd->bd", mixed, of["attention.out"]) + of["attention.out_bias"]
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    normed = normed * of["norm.scale"] + of["norm.bias"]
    up = np.maximum(normed @ of["feed_forward.up"] + of["feed_forward.up_bias"], 0)
    expected = x + up @ of["feed_forward.down"] + of["feed_forward.down_bias"]
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_images_of_bytes_are_those_whose_pixels_are_normalised(name):
    config = PAIRS[name]
    vision = dataclasses.replace(config.vision, pixel_mean=(0.4, 0.5, 0.6), pixel_stddev=(0.2,))
    model = build_pair(dataclasses.replace(config, vision=vision))
    images = random_pairs(config).images
    pixels = (images / 255 - np.array([0.4, 0.5, 0.6])) / 0.2
    encode = jax.jit(type(model).encode_images)
    np.testing.assert_allclose(
        encode(model, images), encode(model, pixels.astype(np.float32)), atol=2e-6
    )


@pytest.mark.parametrize("name", PAIRS)
def test_padding_is_read_by_siglip_alone(name):
    config = PAIRS[name]
    model, batch = build_pair(config), random_pairs(config)
    encode = jax.jit(type(model).encode_texts)
    found = encode(model, batch.tokens, batch.lengths)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    padded = np.where(np.arange(12) < batch.lengths[:, None], batch.tokens, 7)
    moved = np.abs(encode(model, padded, batch.lengths) - found).max()
    assert moved == 0 if name == "clip" else moved > 1e-3


def test_a_patch_matrix_decays_and_is_one_matrix_to_optimizers():
    model = abstract_model(PAIRS["siglip"])
    named = dict(named_parameters(model))
    assert sides_of(named["vision.patches"]).sides == (48, 32)
    decays = {path for path, p in named_parameters(decayed(model)) if p.get_value()}
    assert {"vision.patches", "vision.positions", "text.embedding.table"} <= decays
    assert not decays & {"log_scale", "bias", "vision.patch_bias", "vision.pool.query"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"embed_dim": 48, "image_projection": None}, "image_projection=None needs"),
        (lambda c: {"vision": dataclasses.replace(c.vision, pooling=None)}, "no pooling"),
        (lambda c: {"text": dataclasses.replace(c.text, pooler=True)}, "leave out pooler"),
        (
            lambda c: {"text": dataclasses.replace(c.text, moe=MoEConfig(4, 1, mlp_dim=8))},
            "text.moe",
        ),
        (lambda c: {"vision": dataclasses.replace(c.vision, patch_size=17)}, "no room"),
        (
            lambda c: {
                "vision": dataclasses.replace(
                    c.vision, stack=dataclasses.replace(c.vision.stack, layers=(LayerConfig(),))
                )
            },
            "no order in time",
        ),
        (
            lambda c: {"vision": dataclasses.replace(c.vision, class_token=False)},
            "needs vision.class_token",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        tiny_clip(**change(tiny_clip()))


def test_captions_longer_than_the_positions_are_refused():
    with pytest.raises(ConfigError, match="max_length=12"):
        tiny_clip().batch_spec(batch_size=4, length=13)


def test_a_mesh_that_splits_the_length_is_refused():
    mesh = make_mesh(MeshConfig(data=4, sequence=2))
    with jax.set_mesh(mesh), pytest.raises(ShardingError, match=r"set mesh\.sequence=1"):
        DualEncoder(tiny_clip(), nnx.Rngs(0))


def test_the_scale_is_bounded_after_an_update():
    model: Any = build_pair(tiny_clip())
    model.log_scale = model.log_scale.replace(jnp.full((), 9.0))
    np.testing.assert_allclose(np.exp(model.after_update({}).log_scale[...]), 100, rtol=1e-6)
    assert float(model.log_scale[...]) == 9.0


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_a_narrow_compute_dtype_and_dropout(name):
    """Outputs stay float32 and near; dropout is of training passes alone."""

    def narrowed(stack):
        return dataclasses.replace(stack, compute_dtype="bfloat16", dropout=0.3)

    config, batch = PAIRS[name], random_pairs(PAIRS[name])
    vision = dataclasses.replace(config.vision, stack=narrowed(config.vision.stack))
    narrow = build_pair(dataclasses.replace(config, text=narrowed(config.text), vision=vision))
    run = jax.jit(lambda model, batch, key=None: model(batch, key))
    expected, found = run(build_pair(config), batch), run(narrow, batch)
    trained = run(narrow, batch, jax.random.key(0))
    for kind in ("images", "texts"):
        one, other = getattr(expected, kind), getattr(found, kind)
        assert other.dtype == jnp.float32
        assert 1e-6 < np.abs(one - other).max() < 0.05
        assert np.abs(other - getattr(trained, kind)).max() > 0.05
