"""Predicates against masks drawn by hand and against the words of their papers."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.ops.attention.masks import (
    AttentionMask,
    Banded,
    Bidirectional,
    BlockCausal,
    Causal,
    Chunked,
    Either,
    Window,
    attention_side,
    looks_ahead,
)


def mask(predicates, segments, blocks=None) -> list[str]:
    """One string a query; `x` where it sees the key."""
    segments = np.asarray(segments)
    positions = [int((segments[:i] == s).sum()) for i, s in enumerate(segments)]
    side = attention_side(
        jnp.array([positions]),
        jnp.array([segments]),
        None if blocks is None else jnp.array([blocks]),
    )
    whole = AttentionMask(predicates, side, side)
    seen = np.asarray(whole.dense())[0]
    # Any block of it is that part of the whole.
    for rows, columns in ((slice(1, 3), slice(0, 3)), (slice(2, None), slice(None))):
        np.testing.assert_array_equal(whole.dense(rows, columns)[0], seen[rows, columns])
    return ["".join(".x"[int(cell)] for cell in row) for row in seen]


def test_causal_in_two_segments_and_padding():
    assert mask((Causal(),), [1, 1, 1, 2, 2, 0]) == [
        "x.....",
        "xx....",
        "xxx...",
        "...x..",
        "...xx.",
        ".....x",
    ]


def test_every_key_of_the_segment():
    assert mask((Bidirectional(),), [1, 1, 2, 2, 2]) == [
        "xx...",
        "xx...",
        "..xxx",
        "..xxx",
        "..xxx",
    ]


def test_a_window_reaches_its_size_back_in_each_segment():
    assert mask((Causal(), Window(2)), [1, 1, 1, 1, 2, 2]) == [
        "x.....",
        "xx....",
        ".xx...",
        "..xx..",
        "....x.",
        "....xx",
    ]


def test_a_band_reaches_both_ways_and_a_causal_one_only_back():
    assert mask((Banded(1),), [1] * 4) == ["xx..", "xxx.", ".xxx", "..xx"]
    assert mask((Causal(), Banded(1)), [1] * 4) == ["x...", "xx..", ".xx.", "..xx"]


def test_chunks_count_from_their_segments_start():
    assert mask((Causal(), Chunked(2)), [1, 1, 1, 2, 2, 2]) == [
        "x.....",
        "xx....",
        "..x...",
        "...x..",
        "...xx.",
        ".....x",
    ]


def test_a_prefix_sees_all_of_itself_and_the_rest_sees_back():
    assert mask((BlockCausal(),), [1] * 5, [2, 2, 2, 3, 4]) == [
        "xxx..",
        "xxx..",
        "xxx..",
        "xxxx.",
        "xxxxx",
    ]
    assert mask((BlockCausal(),), [1] * 4) == mask((Causal(),), [1] * 4)


def test_either_is_the_union():
    strided = (Causal(), Chunked(3) | Window(2))
    assert mask(strided, [1] * 5) == ["x....", "xx...", "xxx..", "..xx.", "...xx"]


DEFINITIONS = {
    Causal(): lambda q, k: k <= q,
    Window(3): lambda q, k: q - k < 3,
    Banded(2): lambda q, k: abs(q - k) <= 2,
    Chunked(4): lambda q, k: q // 4 == k // 4,
    Bidirectional(): lambda q, k: True,
}


@settings(max_examples=30, deadline=None)
@given(
    chosen=st.lists(st.sampled_from(list(DEFINITIONS)), min_size=1, max_size=3),
    united=st.booleans(),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
)
def test_predicates_combine_as_and_or_as_or(chosen, united, lengths):
    predicates = (Either(tuple(chosen)),) if united else tuple(chosen)
    segments = np.repeat(np.arange(len(lengths)) + 1, lengths)
    starts = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
    expected = []
    for q, start in enumerate(starts):
        row = ""
        for k in range(len(starts)):
            holds = [DEFINITIONS[predicate](q - start, k - starts[k]) for predicate in chosen]
            seen = segments[q] == segments[k] and (any if united else all)(holds)
            row += "x" if seen else "."
        expected.append(row)
    assert mask(predicates, segments) == expected
    ahead = any("x" in row[q + 1 :] for q, row in enumerate(expected))
    assert looks_ahead(predicates) or not ahead
