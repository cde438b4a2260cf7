"""BERT's pairs: half of the second spans are of another document, drawn anew in each epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.word_codec import WordCodec

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.special import SpecialTokens
from jaxgen.data.denoising import MaskedTokens
from jaxgen.data.draws import Draws
from jaxgen.data.features import Text
from jaxgen.data.mixtures import Mixture
from jaxgen.data.sentence_pairs import FOLLOWS, RANDOM, SentencePairs
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError

CODEC = ByteCodec(SpecialTokens())
LENGTH = 32


@settings(max_examples=50, deadline=None)
@given(length=st.integers(1, 60), seed=st.integers(0, 9), available=st.integers(1, 60))
def test_a_pair_is_begin_first_end_second_end(length, seed, available):
    codec = WordCodec()
    ids = codec.encode(" ".join(f"a{n}" for n in range(length)))
    elsewhere = codec.encode(" ".join(f"b{n}" for n in range(available)))
    pairs = SentencePairs()
    asked = []

    def other(size):
        asked.append(size)
        return elsewhere[:size]

    segment = pairs.segment(ids, codec, Draws(seed), False, other)
    (size,), _ = pairs.sizes(np.array([length]), codec, False)
    assert len(segment.tokens) <= size and segment.tokens[0] == codec.begin_id
    if length == 1:
        assert segment.pair == 0 and segment.types is None
        return
    ends = np.flatnonzero(segment.targets == codec.end_id)
    cut = int(ends[0])
    np.testing.assert_array_equal(ends, [cut, len(segment.tokens) - 1])
    np.testing.assert_array_equal(segment.types, np.arange(len(segment.tokens)) > cut)
    first, second = segment.targets[1:cut], segment.targets[cut + 1 : -1]
    assert len(first) and len(second)
    np.testing.assert_array_equal(first, ids[: len(first)])
    follows = segment.pair == FOLLOWS
    assert segment.pair in (FOLLOWS, RANDOM) and bool(asked) != follows
    expected = ids[len(first) :] if follows else elsewhere[: len(second)]
    np.testing.assert_array_equal(second, expected)
    # Both spans are masked as one text, and no end is.
    assert segment.weights.sum() == max(1, round((len(first) + len(second)) * 0.15))
    assert not segment.weights[[0, *ends]].any()


def task(*texts, **settings):
    records = tuple({"text": text} for text in texts)
    pairs = SentencePairs(masking=MaskedTokens(rate=0.01), **settings)
    return Task("pairs", InMemory(records, 0.0), Text(denoising=pairs), CODEC)


def test_rows_say_where_pairs_begin_and_half_of_them_are_random():
    documents = [chr(ord("a") + n) * (20 + n) for n in range(26)]
    opened = Mixture("m", (task(*documents),)).open(batch_size=26, length=LENGTH, seed=0)
    labels = []
    for step in range(20):
        batch = opened.batch(step)
        at = np.argwhere(batch.pair_labels > 0)
        for row, place in at:
            assert batch.positions[row, place] == 0
            own = batch.segment_ids[row] == batch.segment_ids[row, place]
            letters = [
                set(CODEC.decode(batch.targets[row][own & (batch.token_types[row] == kind)]))
                for kind in (0, 1)
            ]
            assert all(len(one) == 1 for one in letters)
            label = batch.pair_labels[row, place]
            assert (letters[0] == letters[1]) == (label == FOLLOWS)
            labels.append(label)
    share = np.mean(np.array(labels) == RANDOM)
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(len(labels))
    first, again = (opened.batch(step * opened.rows_per_epoch["pairs"] // 26) for step in (0, 1))
    assert np.any(first.pair_labels != again.pair_labels)


def test_pairs_need_a_second_document_and_a_model_without_an_encoder():
    opened = Mixture("m", (task("a" * 200, random=1.0),)).open(batch_size=1, length=32, seed=0)
    with pytest.raises(DataError, match="two documents or more"):
        opened.batch(0)
    with pytest.raises(DataError, match="without an encoder"):
        SentencePairs().sizes(np.array([3]), WordCodec(), True)
