"""What reads prompts: empty captions, frozen encoders, pairs, and several together."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxgen.commands.models import load_model
from jaxgen.errors import ConfigError
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.models.diffusion.caption_encoder_config import CaptionEncoderConfig
from jaxgen.models.diffusion.clip_latents import ClipLatentsConfig
from jaxgen.models.diffusion.conditioner_configs import (
    ClassLabelsConfig,
    ClipConditionerConfig,
)
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.models.diffusion.together_config import TogetherConfig
from jaxgen.models.dual_encoder_config import DualEncoderConfig
from jaxgen.models.parameters import Frozen, named_parameters, number_of_parameters
from jaxgen.models.stack_config import StackConfig
from jaxgen.models.vision import VisionConfig
from jaxgen.ops.attention.biases import RelativeBias
from jaxgen.ops.attention.masks import Bidirectional
from jaxgen.sharding.layout import Layout, using

WIDTHS: dict[str, Any] = {"num_layers": 1, "embed_dim": 16, "num_heads": 2, "mlp_dim": 16}
TEXT = TransformerConfig(**WIDTHS, vocab_size=12)
TOWER = StackConfig(**WIDTHS, layers=(LayerConfig(rope=None, mask=(Bidirectional(),)),))
PAIR = DualEncoderConfig(
    text=TEXT,
    vision=VisionConfig(stack=TOWER, image_size=4, patch_size=2, pooling="mean"),
    embed_dim=8,
)
# Begin, words, end, padding.
TOKENS = np.array([[1, 5, 6, 2, 0, 0], [1, 7, 8, 9, 3, 2]], np.int32)
LENGTHS = np.array([4, 6], np.int32)
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
ALL, NONE = jnp.ones(2, bool), jnp.zeros(2, bool)


@pytest.fixture(autouse=True)
def layout():
    """The layout that the root model has in force."""
    with using(Layout()):
        yield


def prompts(**changes: Any) -> Prompts:
    arrays: dict[str, Any] = {"tokens": jnp.asarray(TOKENS), "lengths": jnp.asarray(LENGTHS)}
    return Prompts(**arrays | changes)


def test_an_empty_caption_keeps_its_ends():
    tokens, lengths = prompts().empty_captions
    np.testing.assert_array_equal(tokens, [[1, 2, 0, 0, 0, 0]] * 2)
    np.testing.assert_array_equal(lengths, [2, 2])


@pytest.mark.slow
def test_an_encoder_reads_no_padding_and_a_dropped_caption_is_an_empty_one():
    encoder = CaptionEncoderConfig(TEXT, pooled=True).build(nnx.Rngs(0), Layout())
    told = encoder(prompts(), ALL)
    longer = jnp.pad(jnp.asarray(TOKENS), ((0, 0), (0, 3)))
    padded = encoder(prompts(tokens=longer), ALL)
    np.testing.assert_allclose(padded.sequence[0, :4], told.sequence[0, :4], atol=1e-6)
    np.testing.assert_allclose(padded.pooled, told.pooled, atol=1e-6)
    np.testing.assert_array_equal(told.mask, [[1, 1, 1, 1, 0, 0], [1] * 6])
    np.testing.assert_allclose(told.pooled[0], told.sequence[0, 3])
    tokens, lengths = prompts().empty_captions
    empty = encoder(prompts(tokens=tokens, lengths=lengths), ALL)
    dropped = encoder(prompts(), jnp.array([True, False]))
    np.testing.assert_allclose(dropped.sequence[1], empty.sequence[1], atol=1e-6)
    np.testing.assert_allclose(dropped.sequence[0], told.sequence[0], atol=1e-6)


def test_what_is_frozen_is_not_trained():
    for frozen in (True, False):
        encoder = CaptionEncoderConfig(TEXT, frozen=frozen).build(nnx.Rngs(0), Layout())
        kinds = {type(parameter) for _, parameter in named_parameters(encoder)}
        assert kinds == {Frozen if frozen else nnx.Param}


@pytest.mark.slow
def test_a_pair_tells_the_vectors_of_its_pictures_or_texts():
    pair = PAIR.build(nnx.Rngs(1), Layout())
    for reads in ("images", "texts"):
        config = ClipConditionerConfig(PAIR, reads)
        conditioner = config.build(nnx.Rngs(0), Layout()).adopt(pair)
        told = conditioner(prompts(images=jnp.asarray(PICTURES)), ALL)
        np.testing.assert_allclose(np.square(told.pooled).sum(-1), 8, rtol=1e-5)
        own = pair.encode_texts(TOKENS, LENGTHS)
        if reads == "images":
            own = pair.encode_images(PICTURES)
        np.testing.assert_allclose(told.pooled, own * 8**0.5, rtol=1e-5, atol=1e-6)
        dropped = conditioner(prompts(images=jnp.asarray(PICTURES)), NONE)
        assert (np.abs(dropped.pooled).max() == 0) == (reads == "images")


def test_a_prior_s_latents_are_the_vectors_of_the_pixels():
    pair = PAIR.build(nnx.Rngs(1), Layout())
    latents = ClipLatentsConfig(PAIR).build(nnx.Rngs(0), Layout()).adopt(pair)
    numbers = PICTURES.astype(np.float32) / 127.5 - 1
    found = latents.to_latents(jnp.asarray(numbers))
    assert found.shape == (2, 1, 1, 8)
    np.testing.assert_allclose(found[:, 0, 0], pair.encode_images(PICTURES) * 8**0.5, atol=1e-5)


def test_several_are_laid_side_by_side_and_dropped_apart():
    parts = (
        CaptionEncoderConfig(TEXT, drop=0.5),
        ClipConditionerConfig(PAIR, "images", drop=0.1),
    )
    config = TogetherConfig(parts)
    assert (config.context_dim, config.pooled_dim, config.drops) == (16, 8, (0.5, 0.1))
    both = config.build(nnx.Rngs(0), Layout())
    told = both(prompts(images=jnp.asarray(PICTURES)), jnp.stack([ALL, NONE]))
    assert told.sequence.shape == (2, 6, 16) and np.abs(told.pooled).max() == 0
    with pytest.raises(ConfigError, match="two or more"):
        TogetherConfig(parts[:1])


@pytest.mark.parametrize(
    "config",
    [
        ClassLabelsConfig(5, 16),
        CaptionEncoderConfig(TEXT),
        ClipConditionerConfig(PAIR),
        TogetherConfig((CaptionEncoderConfig(TEXT), ClipConditionerConfig(PAIR))),
    ],
)
def test_counts_are_exact(config):
    assert config.count().total == number_of_parameters(config.build(nnx.Rngs(0), Layout()))


def test_stable_diffusion_s_encoder_has_its_published_size():
    """CLIP ViT-L/14's text tower: 123,060,480."""
    tower = load_model("clip/l14").text
    assert CaptionEncoderConfig(tower, masks_padding=False).count().total == 123_060_480


def test_imagen_s_encoder_has_its_published_size():
    """T5-XXL's encoder with its table: 4,762,310,656, counted in recipes of others."""
    encoder = TransformerConfig(
        num_layers=24, embed_dim=4096, num_heads=64, head_dim=64, mlp_dim=10_240,
        vocab_size=32_128, activation="gelu_tanh", position_bias=RelativeBias(),
        layers=(LayerConfig(rope=None, mask=(Bidirectional(),)),),
    )  # fmt: skip
    assert encoder.count().total == 4_762_310_656
    with pytest.raises(ConfigError, match="read by one stack"):
        CaptionEncoderConfig(dataclasses.replace(encoder, num_encoder_layers=2))


def test_keys_of_dropping_do_not_touch_what_is_read():
    """With a rate of 0 a training pass reads every prompt."""
    encoder = CaptionEncoderConfig(TEXT, drop=0.0).build(nnx.Rngs(0), Layout())
    told = encoder(prompts(), ALL, jax.random.key(0))
    np.testing.assert_allclose(told.sequence, encoder(prompts(), ALL).sequence, atol=1e-6)
