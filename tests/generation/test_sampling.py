"""The sampler against repeated full forward passes, and its filters against numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import build, tiny_dense, tiny_moe
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.batch import Batch
from jaxgen.errors import ConfigError
from jaxgen.generation.policies import SamplingPolicy, choose, filter_logits
from jaxgen.generation.sampling import pad_prompts, sample

GREEDY = SamplingPolicy(temperature=0)
PROMPTS = [np.array(p) for p in ([5, 9, 2], [7], [1, 2, 3, 4, 5, 6])]


@functools.cache
def model(kind="dense"):
    return build(tiny_dense(embedding_stddev=0.5) if kind == "dense" else tiny_moe())


def continue_prompts(prompts, policy=GREEDY, end_id=63, max_tokens=6, seed=0, kind="dense"):
    tokens, lengths = pad_prompts(prompts, 0)
    return sample(
        model(kind), tokens, lengths, jax.random.key(seed), policy=policy, max_tokens=max_tokens,
        end_id=end_id,
    )  # fmt: skip


def full_log_probabilities(tokens, kind):
    """Of the next token after each prefix, by one forward pass without a cache."""
    row = jnp.array(tokens, jnp.int32)[None]
    ones = jnp.ones_like(row)
    batch = Batch(row, row, ones * 1.0, jnp.arange(row.shape[1])[None], ones, ones)
    return jax.nn.log_softmax(model(kind).logits(model(kind)(batch).hidden))[0]


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_greedy_is_the_argmax_of_full_passes(kind):
    samples = continue_prompts(PROMPTS, end_id=-1, kind=kind)
    for prompt, tokens, found in zip(
        PROMPTS, samples.tokens, samples.log_probabilities, strict=True
    ):
        text = list(prompt)
        for token, log_probability in zip(tokens, found, strict=True):
            expected = full_log_probabilities(text, kind)[-1]
            assert int(token) == int(jnp.argmax(expected))
            np.testing.assert_allclose(log_probability, expected[token], rtol=1e-3, atol=1e-4)
            text.append(int(token))


def test_a_prompt_alone_is_continued_as_in_a_batch():
    together = continue_prompts(PROMPTS)
    for index, prompt in enumerate(PROMPTS):
        alone = continue_prompts([prompt])
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[index])


def test_the_end_token_ends():
    first = continue_prompts(PROMPTS[:1], end_id=-1).tokens[0]
    samples = continue_prompts(PROMPTS[:1], end_id=int(first[2]))
    stop = list(first).index(first[2])
    assert samples.lengths[0] == stop + 1
    assert (samples.tokens[0, stop:] == first[2]).all()
    assert (samples.log_probabilities[0, stop + 1 :] == 0).all()


def test_draws_depend_on_the_key_alone():
    policy = SamplingPolicy(temperature=1.0)
    first, again, other = (
        continue_prompts(PROMPTS, policy, seed=seed, max_tokens=12).tokens for seed in (1, 1, 2)
    )
    assert (first == again).all() and (first != other).any()


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.floats(-5, 5, width=16), min_size=6, max_size=6, unique=True),
    temperature=st.floats(0.3, 3.0),
    top_k=st.none() | st.integers(1, 6),
    top_p=st.none() | st.floats(0.05, 1.0),
)
def test_filters_keep_what_numpy_keeps(logits, temperature, top_k, top_p):
    policy = SamplingPolicy(temperature, top_k, top_p)
    found = np.asarray(filter_logits(jnp.array([logits]), policy))[0]
    scaled = np.array(logits, np.float64) / temperature
    order = np.argsort(-scaled)[:top_k]
    p = np.exp(scaled[order] - scaled[order].max())
    before = np.cumsum(p / p.sum()) - p / p.sum()
    if top_p is not None:
        if np.abs(before - top_p).min() < 1e-4:
            return  # Rounding decides.
        order = order[before < top_p]
    assert set(np.flatnonzero(np.isfinite(found))) == set(order)
    np.testing.assert_allclose(found[order], scaled[order], rtol=1e-4, atol=1e-4)


def test_draws_have_the_probabilities_of_the_softmax():
    logits = jnp.tile(jnp.array([[1.0, 0.0, -1.0, -30.0]]), (20_000, 1))
    tokens = choose(logits, SamplingPolicy(temperature=2.0), jax.random.key(0))
    expected = np.exp([0.5, 0.0, -0.5, -15.0])
    expected /= expected.sum()
    counts = np.bincount(tokens, minlength=4) / 20_000
    # Five standard deviations of a share over 20,000 draws.
    assert np.abs(counts - expected).max() < 5 * np.sqrt(0.25 / 20_000)


def test_policies_and_prompts_that_mean_nothing_are_refused():
    for make in (
        lambda: SamplingPolicy(temperature=-1.0),
        lambda: SamplingPolicy(top_k=0),
        lambda: SamplingPolicy(top_p=0.0),
        lambda: SamplingPolicy(top_p=1.5),
    ):
        with pytest.raises(ConfigError):
            make()
    with pytest.raises(ConfigError, match="empty"):
        pad_prompts([np.array([1]), np.array([], int)], 0)
