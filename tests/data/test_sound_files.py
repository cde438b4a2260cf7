"""WAV files of every width, other rates, and damaged ones."""

import io
import struct
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from jaxgen.data.sound_files import decode_sound, encode_wav
from jaxgen.errors import ConfigError, DataError

RATE = 8000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)


def file_of(samples, rate=RATE):
    file = io.BytesIO()
    wavfile.write(file, rate, samples)
    return file.getvalue()


def pcm(samples, width, channels=1, rate=RATE):
    """A file by Python's own `wave`, [samples, channels] in [-1, 1]."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        scaled = np.round(samples * (2 ** (8 * width - 1) - 1)).astype(np.int64)
        if width == 1:
            scaled = scaled + 128
        raw = scaled.astype("<i8").tobytes()
        out.writeframes(b"".join(raw[i : i + width] for i in range(0, len(raw), 8)))
    return file.getvalue()


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_whole_numbers_of_every_width(width):
    found = decode_sound(pcm(TONE, width), RATE)
    np.testing.assert_allclose(found, TONE, atol=2.0 ** (2 - 8 * width))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_are_as_they_are(kind):
    np.testing.assert_allclose(decode_sound(file_of(TONE.astype(kind)), RATE), TONE, atol=1e-6)


def test_channels_are_averaged():
    eight = np.stack([TONE * (channel == 2) for channel in range(8)], axis=1)
    found = decode_sound(file_of(eight.astype(np.float32)), RATE)
    np.testing.assert_allclose(found, TONE / 8, atol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 11_025, 4_000])
def test_a_tone_is_the_same_tone_at_another_rate(rate):
    found = decode_sound(file_of(TONE.astype(np.float32)), rate)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    assert len(found) == rate
    np.testing.assert_allclose(found[100:-100], expected[100:-100], atol=0.01)


def test_what_a_lower_rate_cannot_hold_is_left_out():
    """3,500 Hz would sound as 500 Hz at 4,000 samples a second."""
    high = np.sin(2 * np.pi * 3500 * np.arange(RATE) / RATE).astype(np.float32)
    assert np.abs(decode_sound(file_of(high), 4000)[100:-100]).max() < 0.05


def test_it_reads_what_it_writes():
    np.testing.assert_allclose(decode_sound(encode_wav(TONE, RATE), RATE), TONE, atol=1e-4)
    assert decode_sound(encode_wav(np.array([7.0, -7.0]), RATE), RATE).tolist() == pytest.approx(
        [1, -1], abs=1e-4
    )


def test_a_title_after_the_sound_is_passed_over():
    data = encode_wav(TONE, RATE)
    title = b"LIST" + struct.pack("<I", 4) + b"INFO"
    sized = data[:4] + struct.pack("<I", len(data) + len(title) - 8) + data[8:]
    assert len(decode_sound(sized + title, RATE)) == RATE


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"hello, this is no sound", "cannot be decoded as WAV"),
        (encode_wav(TONE, RATE)[:1000], "is cut short: 1,000 of 16,044 bytes"),
        (encode_wav(TONE, RATE)[:30], "is cut short"),
        (encode_wav(np.zeros(0), RATE), "has no samples"),
        (file_of(np.array([0.1, np.nan], np.float32)), "not finite"),
    ],
)
def test_what_is_no_whole_sound_is_told(data, words):
    with pytest.raises(DataError, match=f"a.wav .*{words}"):
        decode_sound(data, RATE, "a.wav")


def test_more_samples_than_are_decoded_are_refused():
    with pytest.raises(DataError, match=r"8,000 samples, and at most 7,999 are decoded"):
        decode_sound(encode_wav(TONE, RATE), RATE, most_samples=7_999)


def test_a_rate_that_makes_too_many_samples_is_refused():
    """A second of it would be 4,000 at another rate, and there are 100."""
    sound = encode_wav(TONE[:100], 2)
    assert len(decode_sound(sound, 8, most_samples=400)) == 400
    with pytest.raises(DataError, match=r"100 samples, 2 a second: at 8,000 they are more than"):
        decode_sound(sound, 8_000, most_samples=399_999)


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_changed_bytes_give_a_sound_or_one_message(data):
    content = bytearray(encode_wav(TONE[:50], RATE))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        found = decode_sound(bytes(content), RATE, most_samples=10_000)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert found.dtype == np.float32 and found.ndim == 1 and np.isfinite(found).all()


def compressed(kind, codec, rate=16_000, channels=2):
    """A second of the tone in one channel of several, by PyAV."""
    av = pytest.importorskip("av", reason="PyAV is not installed (the extra av)")
    file = io.BytesIO()
    wave = np.zeros((channels, rate), np.float32)
    wave[0] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("flac", "flac"), ("ogg", "libopus"), ("mp3", "libmp3lame"), ("mp4", "aac")],
)
def test_compressed_sounds(kind, codec):
    data = compressed(kind, codec)
    found = decode_sound(data, RATE, "a.flac")
    assert found.dtype == np.float32 and abs(len(found) - RATE) < 0.15 * RATE
    spectrum = np.abs(np.fft.rfft(found[1000:7000]))
    assert abs(spectrum.argmax() / 6000 * RATE - 440) < 2
    assert np.sqrt(2) * found[1000:7000].std() == pytest.approx(0.25, rel=0.1)
    with pytest.raises(DataError, match="at most 7,999 are decoded"):
        decode_sound(data, RATE, most_samples=7_999)
    if kind == "flac":
        np.testing.assert_allclose(found[100:-100], TONE[100:-100] / 2, atol=0.01)
        with pytest.raises(DataError, match=r"a\.flac (is cut short|cannot be decoded)"):
            decode_sound(data[: len(data) // 2], RATE, "a.flac")


def test_what_a_compressed_sound_needs_is_told():
    try:
        import av  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with pytest.raises(ConfigError, match=r'a\.flac is no WAV file.*"jaxgen\[av\]"'):
            decode_sound(b"fLaC" + bytes(100), RATE, "a.flac")
    else:
        with pytest.raises(DataError, match=r"a\.flac cannot be decoded"):
            decode_sound(b"fLaC" + bytes(100), RATE, "a.flac")
