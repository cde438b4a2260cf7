"""Digits and melodies as sounds: frequencies against the standards, transcripts read back."""

import itertools
from collections import Counter

import numpy as np
import pytest

from jaxgen.data.generated.tones import DIGITS, DTMF, NOTES, Tones, power_at
from jaxgen.errors import ConfigError

MELODY = Tones("melody", tone_seconds=0.05)


def records(source, split="heldout", count=200):
    return source.records_by_index(split).__getitems__(range(count))


def peaks(sound, rate, count):
    """The frequencies of the highest peaks of a spectrum, to a tenth of a Hz."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 10 * rate))
    inner = spectrum[1:-1]
    is_peak = (inner > spectrum[:-2]) & (inner >= spectrum[2:])
    places = 1 + np.flatnonzero(is_peak)
    return sorted(places[np.argsort(-spectrum[places])[:count]] / 10)


def test_digits_have_the_frequencies_of_the_standard():
    """ITU-T Q.23: 1 is 697 and 1209 Hz, 0 is 941 and 1336, 9 is 852 and 1477."""
    assert DTMF["1"] == (697, 1209) and DTMF["0"] == (941, 1336) and DTMF["9"] == (852, 1477)
    assert DTMF["5"] == (770, 1336) and DTMF["#"] == (941, 1477) and DTMF["D"] == (941, 1633)
    assert len(set(DTMF.values())) == 16
    source = Tones(length=1, tone_seconds=0.2, gap_seconds=0.0)
    for digit in DIGITS:
        found = peaks(source.play([digit]), 8000, 2)
        np.testing.assert_allclose(found, DTMF[digit], atol=1.5)


def test_notes_are_in_equal_temperament():
    assert NOTES["A4"] == 440 and NOTES["A5"] == 880
    assert NOTES["C4"] == pytest.approx(261.626, abs=1e-3)
    ratios = [b / a for a, b in itertools.pairwise(NOTES.values())]
    np.testing.assert_allclose(ratios, 2 ** (1 / 12))
    source = Tones("melody", 1, tuple(NOTES), tone_seconds=0.5)
    for note in ("C4", "F#4", "B5"):
        assert peaks(source.play([note]), 8000, 1)[0] == pytest.approx(NOTES[note], abs=0.3)


def test_the_power_of_a_sine_is_known():
    time = np.arange(800) / 8000
    power = power_at(0.5 * np.sin(2 * np.pi * 1000 * time)[None], np.array([1000.0, 2000.0]), 8000)
    np.testing.assert_allclose(power, [[(0.5 * 800 / 2) ** 2, 0]], atol=1e-6)


@pytest.mark.parametrize("source", [
    Tones(), Tones(tone_seconds=0.04, gap_seconds=0.04, rate=16_000), Tones(length=9), MELODY,
    Tones("melody", 5, tuple(NOTES), tone_seconds=0.08, gap_seconds=0.0),
], ids=str)  # fmt: skip
def test_every_tone_is_read_as_it_is_played(source):
    joined = "" if source.kind == "dtmf" else " "
    for one, other in itertools.product(source.symbols, repeat=2):
        assert source.read_tones(source.play([one, other], 7)) == joined.join((one, other))
    for record in records(source) + records(source, "train"):
        sound = record["sound"]
        assert source.read_tones(sound) == record["transcript"]
        assert source.score_sound(record, sound) == {"tone": 1, "all": 1}
        assert sound.dtype == np.float32 and 0.2 < np.abs(sound).max() <= 1
        slot = round((source.tone_seconds + source.gap_seconds) * source.rate)
        assert len(sound) == source.length * slot
        assert record["answer"] == f" {record['transcript']}" and record["rate"] == source.rate


def test_tones_are_read_under_noise_and_from_coarse_levels():
    source = Tones(noise=0.1)
    for record in records(source):
        assert source.read_tones(record["sound"]) == record["transcript"]
        coarse = np.round(record["sound"] * 8) / 8
        assert source.read_tones(coarse) == record["transcript"]
    quiet = np.concatenate([record["sound"][480:640] for record in records(source)])
    assert quiet.std() == pytest.approx(0.1, rel=0.02) and abs(quiet.mean()) < 0.005


def test_a_wrong_tone_is_told():
    source = Tones()
    record = records(source, count=1)[0]
    text = record["transcript"]
    other = next(digit for digit in DIGITS if digit != text[1])
    wrong = source.play([text[0], other, *text[2:]])
    assert source.score_sound(record, wrong) == {"tone": 0.75, "all": 0}
    assert source.read_tones(record["sound"][: 2 * 640]) == text[:2]
    assert source.score_sound(record, record["sound"][: 2 * 640]) == {"tone": 0.5, "all": 0}
    assert source.read_tones(np.zeros(4 * 640)) == "????"
    noise = np.random.default_rng(0).normal(0, 0.3, 4 * 640)
    assert source.read_tones(noise) == "????"
    assert source.read_tones(np.full(4 * 640, np.nan)) == "????"
    assert (
        source.read_tones(np.zeros(0)) == "" and source.score_sound(record, np.zeros(0))["all"] == 0
    )


@pytest.mark.parametrize("source", [Tones(length=2), MELODY], ids=["dtmf", "melody"])
def test_no_held_out_transcript_is_trained_on(source):
    keys = [
        {record["key"] for record in records(source, split, 1500)} for split in ("train", "heldout")
    ]
    assert not keys[0] & keys[1] and len(keys[1]) > 1
    draws = np.random.default_rng(0).integers(0, 2**64, (300, source.num_draws), dtype=np.uint64)
    pairs = {
        (source.record(row)["key"], int(key))
        for row, key in zip(draws, source.keys(draws), strict=True)
    }
    assert len(pairs) == len({key for key, _ in pairs}) == len({number for _, number in pairs})


@pytest.mark.parametrize("source", [Tones(length=1), Tones("melody", 1)], ids=["dtmf", "melody"])
def test_chance_is_the_rate_of_the_commonest_answer(source):
    draws = np.random.default_rng(1).integers(0, 2**64, (3000, source.num_draws), dtype=np.uint64)
    answers = Counter(source.record(row)["answer"] for row in draws)
    error = (source.chance * (1 - source.chance) / 3000) ** 0.5
    assert -4 * error < answers.most_common(1)[0][1] / 3000 - source.chance < 5 * error


def test_a_record_is_a_function_of_its_index():
    one, other = (Tones(noise=0.1).records_by_index("train") for _ in range(2))
    late, early = one.__getitems__([900_000, 5])
    again = other.__getitems__([5])[0]
    assert (again["sound"] == early["sound"]).all() and again["key"] == early["key"] != late["key"]
    assert records(Tones(), "train", 1)[0]["transcript"] == "7471"


@pytest.mark.parametrize("settings", [
    {"kind": "noise"}, {"length": 0}, {"kind": "melody", "notes": ("C4",)},
    {"kind": "melody", "notes": ("C4", "H4")}, {"tone_seconds": 0.03}, {"rate": 100},
    {"kind": "melody", "notes": ("C4", "C#4"), "tone_seconds": 0.04},
], ids=str)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ConfigError):
        Tones(**settings)
