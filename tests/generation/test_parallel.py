"""Parallel decoding: as many masked as the schedule says, the surest kept, as by full passes."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import MESHES, build, tiny_dense
from support.media import BEGIN, CODEC, FIRST

from jaxgen.codecs.media import Media, locate
from jaxgen.errors import ConfigError
from jaxgen.generation.continuing import continue_prompts
from jaxgen.generation.media import media_of_prompts
from jaxgen.generation.parallel import sample_in_parallel
from jaxgen.generation.policies import ParallelDecoding, SamplingPolicy
from jaxgen.generation.sampling import pad_prompts, tokens_to_read
from jaxgen.models.block_config import LayerConfig
from jaxgen.ops.attention.masks import BlockCausal
from jaxgen.ops.mask_schedules import MaskSchedule, masks_left
from jaxgen.ops.positions import Rope
from jaxgen.sharding.mesh import make_mesh

RANGES = CODEC.media_ranges
MASK = CODEC.special_id("<|mask|>")
SIZE = RANGES[0].size
VOCAB = -(-CODEC.vocab_size // 64) * 64
CONFIG = tiny_dense(
    vocab_size=VOCAB,
    head_dim=8,
    layers=(LayerConfig((BlockCausal(),), Rope(sections=(2, 0, 1, 1))),),
    place_embeddings=(0, 2, 3),
)
ONE_BY_ONE = ParallelDecoding(steps=SIZE, schedule="linear", noise=0.0)


@functools.cache
def model():
    return build(CONFIG)


def prompts(count=3):
    texts = ["a", "bca", "cc"][:count]
    return [np.append(CODEC.encode(text), BEGIN).astype(np.int32) for text in texts]


def policy(plan, temperature=0.0, **more):
    return SamplingPolicy(temperature=temperature, parallel=plan, **more)


@pytest.mark.parametrize("size", [1, 6, 144, 256])
@pytest.mark.parametrize("steps", [1, 4, 12, 64])
def test_what_is_left_masked_is_the_share_of_the_schedule(size, steps):
    shares: dict[MaskSchedule, Any] = {
        "cosine": lambda done: math.cos(math.pi * done / 2),
        "linear": lambda done: 1 - done,
    }
    for schedule, share in shares.items():
        left = masks_left(size, steps, schedule)
        count = min(steps, size)
        assert len(left) == count and left[-1] == 0
        falls = -np.diff([size, *left])
        assert (falls >= 1).all()
        closed = [math.floor(size * share(step / count) + 1e-9) for step in range(1, count)]
        is_falling = (np.diff([size, *closed, 0]) < 0).all()
        assert is_falling or (schedule == "cosine" and 16 * steps > size)
        if is_falling:  # No step must reveal more than its share.
            assert left[:-1] == closed
    assert masks_left(size, size, "linear") == list(range(size - 1, -1, -1))


@jax.jit
def all_logits(read):
    return model().logits(model()(read).hidden)


def log_probabilities(prompt, codes, width=16):
    """Of the codes, of one pass over the prompt and a picture that is partly masked."""
    ids = np.concatenate([[CODEC.begin_id], prompt, np.where(codes < 0, FIRST, codes)])
    first, length = 1 + len(prompt), len(ids)
    modalities, places = locate(ids, RANGES)
    ids[first:] = np.where(codes < 0, MASK, codes)
    blocks = np.maximum(np.arange(width), first - 1)
    blocks[first:length] = length - 1
    filled = {
        "tokens": np.pad(ids, (0, width - length)),
        "modalities": np.pad(modalities, (0, width - length)),
        "places": np.pad(places, [(0, width - length), (0, 0)]),
    }
    read = tokens_to_read(
        filled["tokens"][None], np.arange(width)[None], jnp.asarray(np.arange(width) < length)[None]
        * 1,
    )  # fmt: skip
    read = dataclasses.replace(
        read,
        block_ids=blocks[None],
        modalities=filled["modalities"][None],
        places=filled["places"][None],
    )
    logits = np.asarray(all_logits(read)[0, first:length, FIRST : FIRST + 4], np.float64)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def greedy_by_confidence(prompt):
    """One code a step: of all that are masked, the surest likeliest one; by full passes."""
    codes, order = np.full(SIZE, -1), []
    for _ in range(SIZE):
        found = log_probabilities(prompt, codes)
        sure = np.where(codes < 0, found.max(axis=-1), -np.inf)
        place = int(sure.argmax())
        codes[place] = FIRST + found[place].argmax()
        order.append(place)
    return codes, order


def decoded(plan, key=0, temperature=0.0, count=3, ours=model):
    tokens, lengths = pad_prompts([np.append(CODEC.begin_id, p) for p in prompts(count)], 0)
    media = media_of_prompts(tokens, lengths, RANGES)
    made = sample_in_parallel(
        ours(), tokens, lengths, jax.random.key(key), policy=policy(plan, temperature),
        ranges=RANGES, number=1, mask_id=MASK, media=media,
    )  # fmt: skip
    return jax.device_get(made)


@pytest.mark.slow
def test_one_code_a_step_is_greedy_by_confidence():
    made = decoded(ONE_BY_ONE)
    for row, prompt in enumerate(prompts()):
        codes, order = greedy_by_confidence(prompt)
        assert made.tokens[row].tolist() == codes.tolist()
        assert np.argsort(made.steps[row]).tolist() == order


@pytest.mark.slow
def test_each_step_keeps_what_the_schedule_says_and_one_alone_takes_the_likeliest():
    for steps in (1, 3, 4):
        made = decoded(ParallelDecoding(steps), temperature=1.0)
        for row in made.steps:
            left = [int((row > step).sum()) for step in range(steps)]
            assert left == masks_left(SIZE, steps, "cosine")
    at_once = decoded(ParallelDecoding(1))
    nothing = np.full(SIZE, -1)
    for row, prompt in enumerate(prompts()):
        found = log_probabilities(prompt, nothing)
        assert at_once.tokens[row].tolist() == (FIRST + found.argmax(axis=-1)).tolist()
        np.testing.assert_allclose(at_once.log_probabilities[row], found.max(axis=-1), atol=1e-5)


def test_noise_changes_the_order_and_not_what_is_possible():
    plan = ParallelDecoding(SIZE, "linear", noise=100.0)
    orders = {tuple(decoded(plan, key).steps[0].tolist()) for key in range(4)}
    assert len(orders) > 1
    assert tuple(decoded(plan, 0).steps[0].tolist()) in orders


@pytest.mark.slow
def test_completions_are_pictures_and_a_guidance_of_one_changes_nothing():
    made = continue_prompts(model(), CODEC, prompts(), jax.random.key(0), policy(ONE_BY_ONE), 7)
    for ids, row in zip(made, decoded(ONE_BY_ONE).tokens, strict=True):
        assert ids.tolist() == row.tolist()
        (one,) = CODEC.decode_media(ids)
        assert isinstance(one, Media)
    without = [np.array([BEGIN], np.int32)] * 3
    scale = functools.partial(policy, ONE_BY_ONE, guidance=1 + 1e-7)
    guided = continue_prompts(
        model(), CODEC, prompts(), jax.random.key(0), scale(), 7, without=without
    )
    assert [ids.tolist() for ids in guided] == [ids.tolist() for ids in made]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixed", "data"])
def test_a_mesh_makes_the_same_pictures(name):
    mesh = make_mesh(MESHES[name])
    many = prompts() * 3
    alone = continue_prompts(model(), CODEC, many[:8], jax.random.key(0), policy(ONE_BY_ONE), 7)
    with jax.set_mesh(mesh):
        split = continue_prompts(
            build(CONFIG), CODEC, many[:8], jax.random.key(0), policy(ONE_BY_ONE), 7
        )
    assert [ids.tolist() for ids in split] == [ids.tolist() for ids in alone]


def test_models_and_prompts_that_cannot_be_decoded_in_parallel_are_refused():
    causal = build(dataclasses.replace(CONFIG, layers=(LayerConfig(),)))
    with pytest.raises(ConfigError, match="block_causal"):
        continue_prompts(causal, CODEC, prompts(), jax.random.key(0), policy(ONE_BY_ONE), 7)
    for text in (CODEC.encode("a"), np.array([CODEC.special_id("<|audio_begin|>")], np.int32)):
        with pytest.raises(ConfigError, match="one size"):
            continue_prompts(model(), CODEC, [text], jax.random.key(0), policy(ONE_BY_ONE), 7)
