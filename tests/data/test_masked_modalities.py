"""Masked modalities: which tokens are read and predicted, where they lie, and in what shares."""

import numpy as np
import pytest
from support.media import CODEC, picture

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.media import Media, locate
from jaxgen.codecs.special import SpecialTokens
from jaxgen.data.draws import Draws
from jaxgen.data.features import PromptAnswer
from jaxgen.data.interleaving import Interleave
from jaxgen.data.masked_modalities import (
    MaskedModalities,
    ModalityDenoising,
    dirichlet,
    longest_run,
    mode_of,
)
from jaxgen.data.mixtures import Mixture
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError

MASK = CODEC.special_id("<|mask|>")
SENTINELS = [CODEC.special_id(f"<|sentinel_{number}|>") for number in range(3)]
IMAGE = CODEC.encode_media(Media("image", picture(0, 1, 2, 3, 2, 1)))
SOUND = CODEC.encode_media(Media("audio", np.ones(5, np.float32)))
TEXT = "the caption"
IDS = np.concatenate([CODEC.encode(TEXT), IMAGE, SOUND]).astype(np.int32)


def segment(denoising, seed=0, ids=IDS, has_source=False):
    return denoising.segment(ids, CODEC, Draws("test", seed), has_source)


def test_a_subset_is_read_another_predicted_and_the_rest_neither():
    whole = np.concatenate([[CODEC.begin_id], IDS, [CODEC.end_id]])
    modalities, places = locate(whole, CODEC.media_ranges)
    ends = [[one.begin_id, one.end_id] for one in CODEC.media_ranges]
    known = np.array([CODEC.begin_id, CODEC.end_id, *np.ravel(ends).tolist()])
    is_end = np.isin(whole, known)
    for seed in range(20):
        found = segment(MaskedModalities(inputs=8, targets=6, alpha=100.0), seed)
        np.testing.assert_array_equal(found.targets, whole)
        np.testing.assert_array_equal(found.modalities, modalities)
        np.testing.assert_array_equal(found.places, places)
        is_read = found.tokens != MASK
        np.testing.assert_array_equal(found.tokens[is_read], whole[is_read])
        assert not (is_read & (found.weights > 0)).any() and is_read[is_end].all()
        # So even shares give each of three modalities about a third.
        for number in range(3):
            own = (modalities == number) & ~is_end
            assert abs(is_read[own].sum() - 8 / 3) < 1.5
            assert abs(found.weights[own].sum() - 2) <= 1
        assert abs(is_read[~is_end].sum() - 8) <= 1.5 and abs(found.weights.sum() - 6) <= 1.5


@pytest.mark.parametrize("alpha", [0.05, 1.0, 100.0])
def test_something_is_predicted_however_much_may_be_read(alpha):
    for seed in range(50):
        found = segment(MaskedModalities(inputs=1000, targets=1, alpha=alpha), seed)
        assert found.weights.sum() >= 1
        assert (found.tokens[found.weights > 0] == MASK).all()


def test_small_alphas_take_a_subset_from_one_modality():
    shares = np.array([dirichlet(0.01, 3, Draws("one", seed)) for seed in range(200)])
    assert (shares.max(axis=1) > 0.99).mean() > 0.9
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(shares.mean(axis=0), 1 / 3, atol=0.15)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_shares_have_the_moments_of_a_dirichlet_distribution(alpha):
    shares = np.array([dirichlet(alpha, 3, Draws("many", seed)) for seed in range(4000)])
    variance = (1 / 3) * (2 / 3) / (3 * alpha + 1)
    np.testing.assert_allclose(shares.mean(axis=0), 1 / 3, atol=5 * (variance / 4000) ** 0.5)
    np.testing.assert_allclose(shares.var(axis=0), variance, rtol=0.12)


def read_of(found, has_source=False):
    """The ids of what is read, behind its mode, and of what is predicted."""
    first = int(np.flatnonzero(found.weights)[0])
    return found.tokens[1 : first + 1], found.targets[found.weights > 0]


def test_every_modality_and_paradigm_comes_and_is_named_before_the_input():
    denoising, seen = ModalityDenoising(), {}
    modes = {
        mode_of(name, paradigm): CODEC.encode(mode_of(name, paradigm))
        for name, paradigms in (("text", "RSX"), ("image", "RS"), ("audio", "RS"))
        for paradigm in paradigms
    }
    for seed in range(200):
        found = segment(denoising, seed)
        for mode, ids in modes.items():
            if found.tokens[1 : 1 + len(ids)].tolist() == ids.tolist():
                seen.setdefault(mode, []).append((len(ids), found))
    assert set(seen) == set(modes) and sum(map(len, seen.values())) == 200

    mode, found = seen["[image] [S] "][0]
    rest = np.concatenate([CODEC.encode(TEXT), SOUND])
    expected = np.concatenate([found.tokens[: 1 + mode], rest, IMAGE])
    np.testing.assert_array_equal(found.tokens, expected)
    np.testing.assert_array_equal(found.targets[found.weights > 0], [*IMAGE, CODEC.end_id])

    for mode, found in seen["[image] [R] "]:
        shown = found.tokens[1 + mode : 1 + mode + len(IDS)]
        is_masked = shown == MASK
        np.testing.assert_array_equal(shown[~is_masked], IDS[~is_masked])
        assert is_masked.sum() == round(6 * 0.75)
        # Of the whole picture, those that were masked and the end token are predicted.
        np.testing.assert_array_equal(
            found.targets[found.weights > 0], [*IDS[is_masked], CODEC.end_id]
        )
        np.testing.assert_array_equal(found.tokens[1 + mode + len(IDS) :], IMAGE)

    mode, found = seen["[text] [S] "][0]
    said = CODEC.decode(found.tokens[1 + mode :])
    given = found.targets[found.weights > 0][:-1]
    assert TEXT.startswith(said[: len(TEXT) - len(given)])
    assert CODEC.decode(given) == TEXT[len(TEXT) - len(given) :]

    mode, found = seen["[text] [R] "][0]
    assert SENTINELS[0] in found.tokens[1 + mode :] and SENTINELS[0] in found.targets


def test_codes_keep_their_places_in_what_is_read_and_in_what_is_predicted():
    denoising = ModalityDenoising()
    for seed in range(60):
        found = segment(denoising, seed)
        is_code = found.tokens >= CODEC.text.vocab_size
        assert found.modalities is not None and found.places is not None
        np.testing.assert_array_equal(is_code | (found.tokens == MASK), found.modalities > 0)
        for number, own in ((1, IMAGE[1:-1]), (2, SOUND[1:-1])):
            columns = 3 if number == 1 else 1
            at = found.places[found.modalities == number]
            ids = found.tokens[found.modalities == number]
            index = at[:, 1] * columns + at[:, 2] if number == 1 else at[:, 0]
            known = ids != MASK
            np.testing.assert_array_equal(ids[known], own[index[known]])


def test_an_encoder_reads_the_input_and_its_decoder_writes_the_rest():
    for seed in range(30):
        found = segment(ModalityDenoising(), seed, has_source=True)
        assert found.source is not None and found.source[-1] == CODEC.end_id
        assert found.tokens[0] == CODEC.begin_id and found.targets[-1] == CODEC.end_id
        rows, sources = ModalityDenoising().sizes(np.array([len(IDS)]), CODEC, has_source=True)
        assert len(found.tokens) <= rows[0] and len(found.source) <= sources[0]
        assert found.modalities is not None and len(found.modalities) == len(found.tokens)


def test_segments_are_no_longer_than_their_sizes_say():
    for denoising in (ModalityDenoising(), MaskedModalities()):
        for length in (1, 2, 5, len(IDS)):
            most = denoising.sizes(np.array([length]), CODEC, False)[0][0]
            for seed in range(30):
                assert len(segment(denoising, seed, IDS[:length]).tokens) <= most


@pytest.mark.parametrize("denoising", [ModalityDenoising(), MaskedModalities(8, 8)])
def test_rows_are_packed_and_drawn_anew_each_epoch(denoising):
    records = tuple(
        {"key": str(i), "caption": "abc", "image": picture(0, 1, 2, 3, 0, 1)} for i in range(6)
    )
    features = PromptAnswer(denoising=denoising)
    step = Interleave(("caption", "image"))
    task = Task("t", InMemory(records, 0.0), features, CODEC, preprocessors=(step,))
    data = Mixture("m", (task,)).open(batch_size=6, length=64, seed=0)
    first, second = data.batch(0), data.batch(1)
    assert (first.tokens != second.tokens).any() and first.loss_weights.any()
    np.testing.assert_array_equal(data.batch(1).tokens, second.tokens)


def test_the_longest_run_is_found():
    assert longest_run(np.array([1, 0, 1, 1, 0, 1, 1], bool)) == (2, 4)
    assert longest_run(np.ones(3, bool)) == (0, 3)


def test_what_does_not_go_is_told():
    with pytest.raises(ConfigError, match="leave R and S out"):
        ModalityDenoising(weights=(0.0, 0.0, 1.0))
    with pytest.raises(DataError, match="use modality_denoising"):
        MaskedModalities().sizes(np.array([4]), CODEC, has_source=True)
    with pytest.raises(DataError, match="neither text nor codes"):
        segment(ModalityDenoising(), ids=IMAGE[:1])
    with pytest.raises(DataError, match="masked_modalities could predict"):
        segment(MaskedModalities(), ids=IMAGE[:1])
    plain = ByteCodec(SpecialTokens())
    found = ModalityDenoising().segment(plain.encode(TEXT), plain, Draws(0), has_source=False)
    assert found.modalities is None
