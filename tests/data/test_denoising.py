"""Objectives against the examples of their papers, and as properties: nothing is lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.word_codec import WordCodec

from jaxgen.data.denoising import MaskedTokens, PrefixLM, SpanCorruption, replace_spans
from jaxgen.data.draws import Draws
from jaxgen.errors import ConfigError, DataError

SENTENCE = "Thank you for inviting me to your party last week ."


def sentinels(codec, count):
    return np.array([codec.special_id(f"<|sentinel_{n}|>") for n in range(count)])


def test_the_spans_of_t5s_figure_2():
    codec = WordCodec()
    ids = codec.encode(SENTENCE)
    is_noise = np.isin(np.arange(len(ids)), [2, 3, 8])
    inputs, targets = replace_spans(ids, is_noise, sentinels(codec, 3))
    assert codec.decode(inputs) == (
        "Thank you <|sentinel_0|> me to your party <|sentinel_1|> week ."
    )
    assert codec.decode(targets) == (
        "<|sentinel_0|> for inviting <|sentinel_1|> last <|sentinel_2|>"
    )


def test_lengths_are_those_of_t5():
    """568 tokens become an input of 512 and a target of 114, ends included (the T5 code's own)."""
    denoising, codec = SpanCorruption(), WordCodec()
    rows, sources = denoising.sizes(np.array([568, 569]), codec, True)
    assert (sources[0], rows[0]) == (512, 114) and sources[1] > 512


def put_back(inputs, targets, codec):
    """The text, from the inputs and targets of span corruption."""
    is_sentinel = [codec.words[i].startswith("<|sentinel") for i in targets]
    spans = np.split(targets, np.flatnonzero(is_sentinel))[1:]
    of = {int(span[0]): span[1:] for span in spans}
    return [token for i in inputs for token in of.get(int(i), [i])]


DENSITIES = [(0.15, 3.0), (0.15, 8.0), (0.5, 3.0), (0.5, 8.0), (0.15, 64.0), (0.5, 64.0)]


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 300),
    seed=st.integers(0, 5),
    kind=st.sampled_from(DENSITIES),
    has_source=st.booleans(),
)
def test_nothing_is_lost_in_corruption(length, seed, kind, has_source):
    denoising, codec = SpanCorruption(*kind), WordCodec()
    ids = codec.encode(" ".join(f"w{n}" for n in range(length)))
    segment = denoising.segment(ids, codec, Draws(seed), has_source)
    rows, sources = denoising.sizes(np.array([length]), codec, has_source)
    assert len(segment.tokens) == len(segment.targets) == rows[0]
    in_loss = segment.targets[segment.weights > 0]
    assert in_loss[-1] == codec.end_id and segment.tokens[0] == codec.begin_id
    assert segment.tokens[1:].tolist() == segment.targets[:-1].tolist()
    if segment.source is not None:
        assert segment.source[-1] == codec.end_id and len(segment.source) == sources[0]
        inputs = segment.source[:-1]
    else:
        inputs = segment.targets[segment.weights == 0]
    assert put_back(inputs, in_loss[:-1], codec) == ids.tolist()
    is_noise = denoising.noise(length, Draws(seed))
    noise, spans = denoising.counts(np.array(length))
    assert is_noise.sum() == noise
    assert (np.diff(is_noise.astype(int), prepend=0) == 1).sum() == spans
    assert length == 1 or (not is_noise[0] and is_noise[-1])


def test_every_place_is_corrupted_as_often():
    denoising = SpanCorruption(0.3, 3.0)
    drawn = np.mean([denoising.noise(40, Draws(n)) for n in range(4000)], axis=0)
    # The ends are fixed by construction; six standard deviations elsewhere.
    assert drawn[0] == 0 and drawn[-1] == 1
    assert abs(drawn[8:-8] - drawn[8:-8].mean()).max() < 6 * np.sqrt(0.3 * 0.7 / 4000)


def test_a_prefix_sees_itself_and_the_rest_in_loss():
    codec = WordCodec()
    ids = codec.encode(SENTENCE)
    segment = PrefixLM(suffix_share=0.25, mode="[S2S]").segment(ids, codec, Draws(0), False)
    assert codec.decode(segment.targets[segment.weights > 0]) == "last week . <end>"
    assert segment.blocks is not None
    assert codec.decode(segment.tokens[segment.blocks == segment.blocks[0]]) == (
        "<begin> [S2S] Thank you for inviting me to your party"
    )
    after = segment.blocks[segment.blocks > segment.blocks[0]]
    assert after.tolist() == list(range(after[0], after[0] + 3))
    divided = PrefixLM(suffix_share=0.25).segment(ids, codec, Draws(0), True)
    assert divided.source is not None
    assert codec.decode(divided.source) == "Thank you for inviting me to your party <end>"
    assert codec.decode(divided.tokens) == "<begin> last week ."
    assert codec.decode(divided.targets) == "last week . <end>" and divided.weights.all()


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 60),
    share=st.sampled_from([None, 0.25, 0.75]),
    has_source=st.booleans(),
    seed=st.integers(0, 9),
)
def test_nothing_is_lost_in_prefixes(length, share, has_source, seed):
    denoising, codec = PrefixLM(share), WordCodec()
    ids = codec.encode(" ".join(f"w{n}" for n in range(length)))
    segment = denoising.segment(ids, codec, Draws(seed), has_source)
    rows, sources = denoising.sizes(np.array([length]), codec, has_source)
    source = segment.source
    inputs = segment.targets[segment.weights == 0] if source is None else source[:-1]
    in_loss = segment.targets[segment.weights > 0]
    assert [*inputs, *in_loss] == [*ids, codec.end_id] and len(in_loss) > 1
    assert len(segment.tokens) <= rows[0]
    assert source is None or len(source) <= sources[0]


def test_masking_is_80_10_10_of_15_percent():
    codec = WordCodec()
    mask = codec.special_id("<|mask|>")
    ids = np.full(200_000, 7, np.int32)
    segment = MaskedTokens().segment(ids, codec, Draws(0), False)
    is_target = segment.weights > 0
    assert is_target.sum() == 30_000 and (segment.targets[1:-1] == ids).all()
    read = segment.tokens[is_target]
    for share, found in (
        (0.8, read == mask), (0.1, np.isin(read, codec.plain_ids)), (0.1, read == 7),
    ):  # fmt: skip
        assert abs(found.mean() - share) < 6 * np.sqrt(share * (1 - share) / 30_000)
    assert (segment.tokens[1:-1][~is_target[1:-1]] == 7).all()
    assert (segment.tokens[0], segment.tokens[-1]) == (codec.begin_id, codec.end_id)
    assert not is_target[0] and not is_target[-1]


def test_masking_with_an_encoder_is_refused():
    with pytest.raises(DataError, match="masked_tokens"):
        MaskedTokens().sizes(np.array([3]), WordCodec(), True)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SpanCorruption(density=0), "density=0"),
        (lambda: SpanCorruption(mean_length=0.5), "mean_length=0.5"),
        (lambda: PrefixLM(suffix_share=1.0), "suffix_share=1.0"),
        (lambda: MaskedTokens(rate=2), "rate=2"),
        (lambda: MaskedTokens(masked=0.9, random=0.2), "add up"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()
