"""Mu-law and mel frames against closed forms and known numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgen.codecs.mel import MelFrames
from jaxgen.codecs.mu_law import decode_mu_law, encode_mu_law
from jaxgen.errors import ConfigError

RATE = 16_000


def tone(hertz, seconds=0.5, rate=RATE):
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def test_every_level_of_mu_law_is_that_of_its_sample():
    levels = np.arange(256)
    samples = decode_mu_law(levels)
    np.testing.assert_array_equal(encode_mu_law(samples), levels)
    assert samples[0] == -1 and samples[255] == 1
    assert encode_mu_law(np.array([0.0, 7.0, -7.0])).tolist() == [128, 255, 0]


@given(st.floats(-1, 1))
def test_the_error_of_mu_law_grows_with_the_sample(x):
    """Half a level, 1/255 of the curve, times its slope: log(256) * (1 + 255 |x|) / 255."""
    error = abs(float(decode_mu_law(encode_mu_law(np.array([x])))[0]) - x)
    bound = np.log(256) * (1 + 255 * abs(x)) / 255 / 255
    assert error <= 1.05 * bound + 1e-6


def test_a_tone_is_in_the_band_of_its_frequency():
    frames = MelFrames()
    filters = frames.filters()
    for hertz in (200, 440, 1000, 3000, 7000):
        heard = frames.encode(tone(hertz))
        assert heard.shape == (50, 80)
        in_band = filters[:, round(hertz * frames.window / RATE)]
        assert in_band[heard[10:-10].mean(axis=0).argmax()] > 0.4 * in_band.max()


def test_bands_are_those_of_slaneys_scale():
    """1,000 Hz is mel 15 there, each mel above it a factor of 6.4^(1/27); areas are 1."""
    frames = MelFrames(window=4096, hop=160)
    filters, width = frames.filters(), RATE / 4096
    np.testing.assert_allclose(filters.sum(axis=1) * width, 1, rtol=0.02)
    top = 15 + 27 * np.log(8) / np.log(6.4)
    peaks = filters.argmax(axis=1) * width
    for band, peak in enumerate(peaks, 1):
        mel = band * top / 81
        hertz = mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)
        assert abs(peak - hertz) <= width


def test_sound_of_a_spectrogram_has_that_spectrogram():
    frames = MelFrames()
    sound = tone(440) * 0.5 + tone(1250) * 0.3
    magnitudes = np.abs(frames.spectrogram(sound))
    again = frames.samples_of(magnitudes)
    assert len(again) == len(sound)
    found = np.abs(frames.spectrogram(again))
    assert np.linalg.norm(found - magnitudes) / np.linalg.norm(magnitudes) < 0.1


def test_frames_are_those_of_whispers_feature_extractor():
    transformers = pytest.importorskip("transformers")
    extractor = transformers.WhisperFeatureExtractor()
    seconds = 30  # It pads others to as many.
    envelope = np.abs(tone(0.3, seconds)) ** 3
    sound = envelope * np.random.default_rng(0).normal(scale=0.1, size=seconds * RATE)
    sound += 0.3 * tone(523.25, seconds)
    told = extractor(sound.astype(np.float32), sampling_rate=RATE, return_tensors="np")
    np.testing.assert_allclose(MelFrames().encode(sound), told["input_features"][0].T, atol=1e-4)


@pytest.mark.parametrize("samples", [0, 1, 5, 159, 160, 161, 1000])
def test_short_sounds_have_their_frames(samples):
    frames = MelFrames().encode(np.zeros(samples))
    assert frames.shape == (-(-samples // 160), 80) and np.isfinite(frames).all()


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match=r"hop=500 is more than mel_frames.window=400"):
        MelFrames(hop=500)
    with pytest.raises(ConfigError, match=r"highest=9000 Hz is above half of mel_frames.rate"):
        MelFrames(highest=9000.0)
