"""Decoding with a cache against the full forward pass, made again for every token."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import MESHES, build, tiny_dense, tiny_gpt2, tiny_model, tiny_moe
from support.tiers import slow_but

from jaxgen.batch import Batch
from jaxgen.errors import ConfigError
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.generation.sampling import pad_prompts, pad_sources, sample
from jaxgen.models.block_config import LayerConfig
from jaxgen.ops.attention.masks import BlockCausal
from jaxgen.sharding.mesh import make_mesh

CONFIGS = {
    "dense": tiny_dense(),
    "learned": tiny_gpt2(max_length=24),
    "capped": tiny_dense(logit_soft_cap=2.0, tie_embeddings=False),
    "moe": tiny_moe(),
    "prefix": tiny_dense(layers=(LayerConfig(mask=(BlockCausal(),)),)),
}
GREEDY = SamplingPolicy(temperature=0.0)
NEVER = 64  # An end token outside of the vocabulary.
LENGTHS = (1, 5, 9, 3, 9, 2, 4, 7)
NEW = 10


@functools.cache
def model_of(name):
    return build(CONFIGS[name])


@functools.cache
def prompts():
    random = np.random.default_rng(0)
    return [random.integers(0, 64, length).astype(np.int32) for length in LENGTHS]


def continued(model, policy=GREEDY, max_tokens=NEW, end_id=NEVER, given=None, seed=0):
    tokens, lengths = pad_prompts(prompts() if given is None else given, pad_id=0)
    key = jax.random.key(seed)
    return sample(
        model, tokens, lengths, key, policy=policy, max_tokens=max_tokens, stop_ids=(end_id,)
    )  # fmt: skip


@jax.jit
def all_logits(model, tokens, given, source=None):
    """[batch, length] int32 -> [batch, length, vocab] float32, without a cache.

    The first `given` [batch] tokens of each row are one block.
    """
    ones = jnp.ones_like(tokens)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    blocks = jnp.where(positions < given[:, None], given[:, None] - 1, positions)
    batch = Batch(tokens, tokens, ones.astype(jnp.float32), positions, ones, ones, blocks)
    return model.logits(model(dataclasses.replace(batch, encoder=source)).hidden)


def greedy_without_a_cache(model, given=None, source=None):
    """Tokens [batch, NEW] and the logits that each was taken from."""
    tokens, lengths = pad_prompts(prompts() if given is None else given, pad_id=0)
    # Nothing looks ahead, so what stands to the right of a token does not matter.
    tokens = np.pad(tokens, [(0, 0), (0, NEW)])
    rows = np.arange(len(lengths))
    made, taken_from = [], []
    for index in range(NEW):
        logits = np.asarray(all_logits(model, tokens, lengths, source))
        logits = logits[rows, lengths + index - 1]
        token = logits.argmax(axis=-1).astype(np.int32)
        tokens[rows, lengths + index] = token
        made.append(token)
        taken_from.append(logits)
    return np.stack(made, axis=1), np.stack(taken_from, axis=1)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


@pytest.mark.parametrize("name", slow_but(["dense"], CONFIGS))
def test_greedy_is_the_argmax_of_full_passes(name):
    samples = continued(model_of(name))
    tokens, logits = greedy_without_a_cache(model_of(name))
    np.testing.assert_array_equal(samples.tokens, tokens)
    expected = np.take_along_axis(log_softmax(logits), tokens[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(samples.log_probabilities, expected, atol=1e-4)
    assert samples.lengths.tolist() == [NEW] * len(LENGTHS)


def test_what_is_given_sees_all_of_itself():
    """The prefix model's answers are not those of the same parameters read causally."""
    prefix = continued(model_of("prefix"))
    causal = build(CONFIGS["dense"])
    assert not np.array_equal(prefix.tokens, continued(causal).tokens)


@pytest.mark.slow
def test_an_encoder_reads_the_source_and_the_decoder_answers():
    model = build(tiny_model("t5"))
    source = pad_sources(prompts(), pad_id=0)
    begun = [np.array([1], np.int32)] * len(LENGTHS)
    tokens, lengths = pad_prompts(begun, pad_id=0)
    samples = sample(
        model, tokens, lengths, jax.random.key(0),
        policy=GREEDY, max_tokens=NEW, stop_ids=(model.config.vocab_size,), source=source,
    )  # fmt: skip
    expected, _ = greedy_without_a_cache(model, begun, source)
    np.testing.assert_array_equal(samples.tokens, expected)


def test_drawn_tokens_have_the_models_own_log_probabilities():
    model = model_of("dense")
    samples = continued(model, SamplingPolicy(temperature=0.7, top_k=5))
    for prompt, made, log_probabilities in zip(
        prompts(), np.asarray(samples.tokens), samples.log_probabilities, strict=True
    ):
        sequence = np.pad(np.concatenate([prompt, made]), (0, max(LENGTHS) - len(prompt)))
        rows = all_logits(model, sequence[None], np.ones(1, int))[0][
            len(prompt) - 1 : len(prompt) + NEW - 1
        ]
        np.testing.assert_allclose(
            log_probabilities, log_softmax(rows)[np.arange(NEW), made], atol=1e-4
        )
        for row, token in zip(np.asarray(rows), made, strict=True):
            assert np.sum(row > row[token]) < 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "moe"])
def test_a_prompt_is_continued_as_if_it_were_alone(name):
    model = model_of(name)
    together = continued(model)
    for index in (0, 1, 2):
        alone = continued(model, given=[prompts()[index]])
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[index])
        np.testing.assert_allclose(
            alone.log_probabilities[0], together.log_probabilities[index], atol=1e-5
        )


def test_nothing_follows_an_end_token():
    model = model_of("dense")
    free = continued(model)
    end_id = int(free.tokens[1, 3])
    samples = continued(model, end_id=end_id)
    for index, row in enumerate(np.asarray(free.tokens)):
        ends = np.flatnonzero(row == end_id)
        length = ends[0] + 1 if len(ends) else NEW
        assert samples.lengths[index] == length
        np.testing.assert_array_equal(samples.tokens[index, :length], row[:length])
        assert (samples.tokens[index, length:] == end_id).all()
        assert (samples.log_probabilities[index, length:] == 0).all()
        assert (samples.log_probabilities[index, :length] < 0).all()
    assert samples.lengths[1] <= 4


@pytest.mark.slow
def test_a_key_makes_its_draws():
    model, policy = model_of("dense"), SamplingPolicy()
    first, again, other = (continued(model, policy, seed=seed).tokens for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != other).mean() > 0.5
    alike = continued(model, policy, given=[prompts()[0]] * 8).tokens
    assert len({tuple(row) for row in np.asarray(alike).tolist()}) > 4


def on_meshes(*fast):
    """Every model on every mesh; those not named are slow, for they compile for long."""
    return [
        pytest.param(name, mesh, marks=() if (name, mesh) in fast else pytest.mark.slow)
        for name in ("dense", "moe")
        for mesh in MESHES
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mesh"), on_meshes(("dense", "sequence")))
def test_a_mesh_does_not_change_what_is_made(name, mesh):
    expected = continued(model_of(name))
    with jax.set_mesh(make_mesh(MESHES[mesh])):
        samples = continued(build(CONFIGS[name]))
    np.testing.assert_array_equal(samples.tokens, expected.tokens)
    np.testing.assert_allclose(samples.log_probabilities, expected.log_probabilities, atol=1e-4)


@pytest.mark.slow
def test_draws_are_made_on_a_mesh_too():
    with jax.set_mesh(make_mesh(MESHES["tensor"])):
        drawn = continued(build(CONFIGS["dense"]), SamplingPolicy(top_k=3, top_p=0.9))
    assert ((drawn.tokens >= 0) & (drawn.tokens < 64)).all()


def test_prompts_are_padded_on_the_right():
    tokens, lengths = pad_prompts([np.array([1, 2, 3]), np.array([4])], pad_id=9)
    assert tokens.tolist() == [[1, 2, 3], [4, 9, 9]] and lengths.tolist() == [3, 1]
    for nothing in ([], [np.array([1]), np.array([], np.int32)]):
        with pytest.raises(ConfigError, match="prompt is empty"):
            pad_prompts(nothing, pad_id=9)
