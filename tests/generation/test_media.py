"""Pictures that are generated keep to their grid, and guidance is what it is defined as."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import MESHES, build, tiny_dense
from support.media import BEGIN, CODEC, END, FIRST, picture

from jaxgen.codecs.media import Media, locate
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.codecs.vectors import ImageVectors
from jaxgen.commands.media_files import range_of_output
from jaxgen.errors import ConfigError, DataError
from jaxgen.generation.continuing import continue_prompts
from jaxgen.generation.media import MediaState, follow, may_follow, media_of_prompts
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.generation.sampling import tokens_to_read
from jaxgen.models.block_config import LayerConfig
from jaxgen.ops.positions import Rope
from jaxgen.sharding.mesh import make_mesh

RANGES = CODEC.media_ranges
VOCAB = -(-CODEC.vocab_size // 64) * 64
CONFIG = tiny_dense(
    vocab_size=VOCAB,
    num_heads=8,
    head_dim=8,
    layers=(LayerConfig(rope=Rope(sections=(2, 0, 1, 1))),),
    place_embeddings=(0, 2, 3),
)
GREEDY = SamplingPolicy(temperature=0.0)


@functools.cache
def model():
    return build(CONFIG)


def prompts(count=4):
    random = np.random.default_rng(0)
    image = CODEC.encode_media(Media("image", picture(0, 1, 2, 3, 2, 1)))
    texts = [CODEC.encode("".join(random.choice(list("abc"), 1 + i))) for i in range(count)]
    return [np.concatenate([image, text, [BEGIN]]).astype(np.int32) for text in texts]


def test_codes_and_only_codes_may_come_until_a_picture_is_whole():
    state = MediaState(jnp.array([0, 1, 1, 2, 2, 2]), jnp.array([0, 5, 6, 0, 1, 5]))
    allowed = np.asarray(may_follow(state, RANGES, VOCAB))
    greys, signs = set(range(FIRST, FIRST + 4)), set(range(FIRST + 4, FIRST + 6))
    image_end, sound_end = (one.end_id for one in RANGES)
    assert image_end == END
    text = set(range(FIRST)) - {image_end, sound_end}
    expected = [text, greys, {image_end}, signs, signs | {sound_end}, {sound_end}]
    assert [set(np.flatnonzero(row)) for row in allowed] == expected


def test_places_token_by_token_are_those_of_the_whole():
    image = CODEC.encode_media(Media("image", picture(0, 1, 2, 3, 2, 1)))
    sound = CODEC.encode_media(Media("audio", np.ones(3, np.float32)))
    tokens = np.concatenate([CODEC.encode("a"), image, sound, CODEC.encode("b")])
    modalities, places = locate(tokens, RANGES)
    state = MediaState(jnp.zeros(1, jnp.int32), jnp.zeros(1, jnp.int32))
    for position, token in enumerate(tokens):
        assert bool(may_follow(state, RANGES, VOCAB)[0, token])
        known = media_of_prompts(tokens[None], np.array([position]), RANGES) if position else None
        if known is not None:
            assert [int(x[0]) for x in known.state] == [int(x[0]) for x in state]
        state, modality, place = follow(state, jnp.array([token]), RANGES)
        assert int(modality[0]) == modalities[position]
        np.testing.assert_array_equal(place[0], places[position])


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_whatever_is_generated_can_be_decoded(temperature):
    policy = SamplingPolicy(temperature=temperature)
    made = continue_prompts(model(), CODEC, prompts(), jax.random.key(0), policy, 8, stops=(END,))
    for ids in made:
        (one,) = CODEC.decode_media(ids)
        assert isinstance(one, Media)
        assert one.values.shape == (2, 3, 3)


@jax.jit
def all_logits(read):
    return model().logits(model()(read).hidden)


def logits_after(ids, width=32):
    """The logits after a text, of one pass over all of it; padding comes after."""
    ids = np.append(CODEC.begin_id, ids)
    tokens = np.pad(ids, (0, width - len(ids)))[None]
    modalities, places = locate(tokens[0], RANGES)
    read = tokens_to_read(
        tokens, np.arange(width)[None], jnp.asarray(np.arange(width) < len(ids))[None] * 1
    )
    read = dataclasses.replace(read, modalities=modalities[None], places=places[None])
    return np.asarray(all_logits(read)[0, len(ids) - 1])


def greedy_by_full_passes(before, steps=7, without=None, scale=1.0):
    """The likeliest allowed tokens, every pass over all tokens anew."""
    made = []
    for _ in range(steps):
        known = np.append(before, made).astype(np.int32)
        found = logits_after(known)
        if without is not None:
            other = logits_after(np.append(without, made).astype(np.int32))
            found = other + scale * (found - other)
        state = media_of_prompts(known[None], np.array([len(known)]), RANGES).state
        allowed = np.asarray(may_follow(MediaState(*map(jnp.asarray, state)), RANGES, VOCAB))[0]
        made.append(int(np.where(allowed, found, -np.inf).argmax()))
    return made


def test_the_cache_makes_what_full_passes_make_after_a_picture_in_the_prompt():
    made = continue_prompts(model(), CODEC, prompts(3), jax.random.key(0), GREEDY, 7, stops=(END,))
    for prompt, ids in zip(prompts(3), made, strict=True):
        assert greedy_by_full_passes(prompt) == [*ids.tolist(), END]


@pytest.mark.slow
def test_guidance_goes_beyond_the_model_without_its_prompt():
    without = [np.array([BEGIN], np.int32)] * 2
    policy = dataclasses.replace(GREEDY, guidance=3.0)
    made = continue_prompts(
        model(), CODEC, prompts(2), jax.random.key(0), policy, 7, stops=(END,), without=without
    )
    plain = continue_prompts(model(), CODEC, prompts(2), jax.random.key(0), GREEDY, 7, stops=(END,))
    for prompt, ids, unguided in zip(prompts(2), made, plain, strict=True):
        expected = greedy_by_full_passes(prompt, without=without[0], scale=3.0)
        assert expected == [*ids.tolist(), END]
        assert not np.array_equal(ids, unguided)


@pytest.mark.slow
def test_no_guidance_at_all_ignores_the_prompt():
    policy = dataclasses.replace(GREEDY, guidance=0.0)
    without = [np.array([BEGIN], np.int32)] * 3
    made = continue_prompts(
        model(), CODEC, prompts(3), jax.random.key(0), policy, 7, stops=(END,), without=without
    )
    alone = continue_prompts(
        model(), CODEC, without[:1], jax.random.key(0), GREEDY, 7, stops=(END,)
    )
    assert all(np.array_equal(ids, alone[0]) for ids in made)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["mixed"])
def test_the_same_pictures_on_a_mesh(mesh):
    one = continue_prompts(model(), CODEC, prompts(8), jax.random.key(0), GREEDY, 7, stops=(END,))
    with jax.set_mesh(make_mesh(MESHES[mesh])):
        many = continue_prompts(
            build(CONFIG), CODEC, prompts(8), jax.random.key(0), GREEDY, 7, stops=(END,)
        )
    assert [ids.tolist() for ids in one] == [ids.tolist() for ids in many]


def test_guidance_is_not_for_encoders():
    config = tiny_dense(vocab_size=VOCAB, num_encoder_layers=1)
    policy = dataclasses.replace(GREEDY, guidance=2.0)
    with pytest.raises(ConfigError, match=r"sampling.guidance=2 needs a model without an encoder"):
        continue_prompts(build(config), CODEC, prompts(1), jax.random.key(0), policy, 4)


def seen(begin=None, end=None):
    """A codec whose pictures of 2 x 3 are read as vectors, as those of imports are."""
    return MultimodalCodec(media=(ImageVectors(8, 12, 2, 3, begin=begin, end=end),))


def test_text_follows_a_picture_that_no_token_ends():
    codec = seen()
    image = codec.encode_media(Media("image", np.zeros((8, 12, 3), np.uint8)))
    tokens = np.stack([np.append(image, image), np.append(image, codec.encode("abcdef"))])
    found = media_of_prompts(tokens, np.array([12, 12]), codec.media_ranges)
    assert np.asarray(found.state).tolist() == [[0, 0], [0, 0]]
    # The second of two pictures lies where the first does.
    np.testing.assert_array_equal(found.places[0, 6:], found.places[0, :6])
    state = MediaState(*map(jnp.asarray, found.state))
    allowed = np.asarray(may_follow(state, codec.media_ranges, 320))
    assert allowed[:, codec.encode("a")[0]].all()


def test_vectors_are_read_and_no_file_is_made_of_them():
    with pytest.raises(DataError, match="reads its image as vectors, which no model writes"):
        range_of_output("a.png", seen())
