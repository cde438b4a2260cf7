"""Filters against plain numpy, draws against their probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxgen.errors import ConfigError
from jaxgen.generation.policies import SamplingPolicy, choose
from jaxgen.ops.filtering import filter_logits

VOCAB = 11


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def kept_by_numpy(logits, policy):
    """Which tokens may be drawn, token by token, and how far the nearest one is from the edge."""
    probabilities = softmax(np.asarray(logits, np.float64) / policy.temperature)
    order = list(np.argsort(-probabilities))[: policy.top_k]
    if policy.top_p is None or policy.top_p == 1.0:
        return set(order), 1.0
    left = probabilities[order] / probabilities[order].sum()
    before, kept = 0.0, set()
    for token, probability in zip(order, left, strict=True):
        if before < policy.top_p:
            kept.add(token)
        before += probability
    return kept, np.abs(np.cumsum(left)[:-1] - policy.top_p).min(initial=1.0)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.sampled_from([None, 1, 4, VOCAB, 50]),
    top_p=st.sampled_from([None, 0.05, 0.5, 0.9, 1.0]),
)
def test_filters_keep_what_numpy_keeps(seed, temperature, top_k, top_p):
    policy = SamplingPolicy(temperature, top_k, top_p)
    logits = 3 * np.random.default_rng(seed).standard_normal((2, VOCAB), np.float32)
    filtered = np.asarray(filter_logits(jnp.asarray(logits), policy.filter))
    for row, out in zip(logits, filtered, strict=True):
        kept, margin = kept_by_numpy(row, policy)
        assume(margin > 1e-5)
        found = set(np.flatnonzero(np.isfinite(out)))
        assert found == kept
        assert int(np.argmax(row)) in found
        inside = sorted(found)
        np.testing.assert_allclose(out[inside], row[inside] / temperature, rtol=1e-6)


def test_equal_logits_stay_or_go_together():
    logits = jnp.array([[1.0, 1.0, 1.0, 0.0]])
    for policy in (SamplingPolicy(top_k=2), SamplingPolicy(top_p=0.2)):
        assert np.isfinite(filter_logits(logits, policy.filter)).tolist() == [
            [True, True, True, False]
        ]


@pytest.mark.parametrize(
    "policy",
    [
        SamplingPolicy(),
        SamplingPolicy(temperature=0.5),
        SamplingPolicy(top_k=3),
        SamplingPolicy(temperature=2.0, top_k=5, top_p=0.8),
    ],
)
def test_draws_have_the_filtered_frequencies(policy):
    logits = np.random.default_rng(1).standard_normal(VOCAB).astype(np.float32)
    kept, _ = kept_by_numpy(logits, policy)
    tokens = sorted(kept)
    expected = softmax(logits[tokens].astype(np.float64) / policy.temperature)
    draws = 20_000
    drawn = choose(jnp.tile(logits, (draws, 1)), policy, jax.random.key(0))
    counts = np.bincount(np.asarray(drawn), minlength=VOCAB)
    assert counts[tokens].sum() == draws
    assert stats.chisquare(counts[tokens], draws * expected).pvalue > 1e-3


def test_no_temperature_takes_the_largest():
    logits = jax.random.normal(jax.random.key(0), (64, VOCAB))
    drawn = choose(logits, SamplingPolicy(temperature=0.0, top_k=3), jax.random.key(1))
    assert drawn.dtype == jnp.int32
    np.testing.assert_array_equal(drawn, np.argmax(logits, axis=-1))


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"temperature": -0.1}, "temperature=-0.1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.1}, "top_p=1.1"),
        ({"top_p": float("nan")}, "top_p=nan"),
    ],
)
def test_impossible_settings_are_named(setting, word):
    with pytest.raises(ConfigError, match=word):
        SamplingPolicy(**setting)
