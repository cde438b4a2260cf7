"""Palettes give back what they were made of, take the nearest otherwise, and know their file."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.spatial.distance import cdist

from jaxgen.codecs.media import Media
from jaxgen.codecs.mel import MelFrames
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.codecs.palette import made_for, nearest, palette_vectors, train_palette
from jaxgen.codecs.palettes import ImagePalette, SoundPalette, VideoPalette
from jaxgen.errors import ConfigError, DataError, JaxgenError

MEL = MelFrames(8_000, window=512, hop=256, bands=40)


def pictures(count=20, size=8, colours=5):
    random = np.random.default_rng(0)
    paints = random.integers(0, 256, (colours, 3)).astype(np.uint8)
    return paints[random.integers(0, colours, (count, size, size))]


def of_pictures(path, codes, patch=(1, 1)):
    vectors = np.concatenate([palette_vectors(Media("image", x), patch) for x in pictures()])
    train_palette(vectors, codes, str(path), made_for("image", (1, *patch)))
    return ImagePalette(str(path), height=8, width=8, patch_height=patch[0], patch_width=patch[1])


def test_a_palette_of_all_colours_loses_nothing(tmp_path):
    codec = of_pictures(tmp_path / "colours.npy", 16)
    assert codec.num_codes == 5
    assert codec.grid == (1, 8, 8)
    for one in pictures():
        np.testing.assert_array_equal(codec.decode(codec.encode(one)), one)


def test_the_nearest_vector_is_taken(tmp_path):
    random = np.random.default_rng(1)
    vectors, table = random.normal(size=(500, 7)), random.normal(size=(33, 7))
    expected = cdist(vectors, table).argmin(axis=1)
    np.testing.assert_array_equal(nearest(vectors, table), expected)


def test_more_codes_lose_less(tmp_path):
    errors = []
    for codes in (4, 32, 256):
        codec = of_pictures(tmp_path / f"{codes}.npy", codes, patch=(2, 2))
        made = np.stack([codec.decode(codec.encode(one)) for one in pictures()])
        errors.append(np.square(made.astype(float) - pictures()).mean())
    assert errors[0] > 1.2 * errors[1] > 1.4 * errors[2]


def test_a_clip_is_of_tubelets(tmp_path):
    clip = pictures(4)
    path = str(tmp_path / "clip.npy")
    vectors = palette_vectors(Media("video", clip), (2, 4, 4))
    train_palette(vectors, 100, path, made_for("video", (2, 4, 4)))
    codec = VideoPalette(path, frames=4, height=8, width=8, patch_frames=2)
    assert codec.grid == (2, 2, 2)
    np.testing.assert_array_equal(codec.decode(codec.encode(clip)), clip)


@pytest.mark.parametrize("frequency", [300.0, 1000.0])
def test_a_tone_comes_back_at_its_frequency(tmp_path, frequency):
    time = np.arange(4_000) / MEL.rate
    tones = {
        one: (0.5 * np.sin(2 * np.pi * one * time)).astype(np.float32) for one in (300.0, 1000.0)
    }
    path = str(tmp_path / "sound.npy")
    frames = [palette_vectors(Media("audio", one), mel=MEL) for one in tones.values()]
    train_palette(np.concatenate(frames), 64, path, made_for("audio", mel=MEL))
    codec = SoundPalette(path, mel=MEL, seconds=1.0)
    codes = codec.encode(tones[frequency])
    assert codec.varies and len(codes) == 16 <= codec.grid[0] == 32
    made = codec.decode(codes)
    spectrum = np.abs(np.fft.rfft(made[1000:3048] * np.hanning(2048)))
    # Bands are about 65 Hz apart here, and a frame says no more than how loud each is.
    assert abs(spectrum.argmax() * MEL.rate / 2048 - frequency) < 65


def test_the_file_is_known_by_its_digest_and_kept_in_a_run(tmp_path):
    codec = of_pictures(tmp_path / "palette.npy", 16)
    run = tmp_path / "run"
    run.mkdir()
    codec.keep_in(run)
    kept = dataclasses.replace(codec, path=str(run / "image_palette.safetensors"))
    assert kept == codec
    other = of_pictures(tmp_path / "other.npy", 3)
    with pytest.raises(DataError, match="only understands the codes it was trained with"):
        other.keep_in(run)


def test_files_and_sizes_that_do_not_fit_are_refused(tmp_path):
    codec = of_pictures(tmp_path / "palette.npy", 16)
    with pytest.raises(DataError, match="uint8 of 4x4x3, and its codec is for uint8 of 8x8x3"):
        codec.encode(pictures(1, 4)[0])
    with pytest.raises(DataError, match="cannot be read"):
        ImagePalette(str(tmp_path / "none.npy"))
    with pytest.raises(ConfigError, match=r"of 1x3x1 .frames, rows, columns. do not divide 1x8x8"):
        dataclasses.replace(codec, patch_height=3)
    with pytest.raises(DataError, match=r"is for .*1, 1, 1.*this codec for .*1, 2, 1"):
        dataclasses.replace(codec, patch_height=2).num_codes  # noqa: B018
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(DataError, match="is not a palette"):
        ImagePalette(str(tmp_path / "text.npy")).num_codes  # noqa: B018
    sound = SoundPalette(str(tmp_path / "palette.npy"), mel=MEL, seconds=0.5)
    with pytest.raises(DataError, match="1 to 4000 samples"):
        sound.vectors_of(np.zeros(4001, np.float32))
    with pytest.raises(DataError, match="not finite"):
        sound.vectors_of(np.full(10, np.nan, np.float32))
    with pytest.raises(DataError, match=r"is for .*image.*this codec for .*audio"):
        sound.num_codes  # noqa: B018


@pytest.mark.parametrize("table", [np.full((3, 3), np.nan, np.float32), np.zeros((1, 4))])
def test_a_table_that_is_none_is_refused(table, tmp_path):
    path = tmp_path / "palette.safetensors"
    save_file({"vectors": table}, path, {"made_for": made_for("image", (1, 1, 1))})
    codec = ImagePalette(str(path), patch_height=1, patch_width=1)
    with pytest.raises(DataError, match="finite float32 vectors of 3"):
        codec.num_codes  # noqa: B018
    with pytest.raises(DataError, match="finite float32 vectors of 3"):
        MultimodalCodec(media=(codec,))


def test_a_palette_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(JaxgenError, match="cannot write"):
        train_palette(np.eye(3, dtype=np.float32), 3, str(tmp_path / "none" / "p"), "")


def test_codecs_that_differ_in_a_setting_are_different_tokenizers(tmp_path):
    path = str(tmp_path / "palette.safetensors")
    frames = palette_vectors(Media("audio", np.ones(4_000, np.float32)), mel=MEL)
    train_palette(frames, 8, path, made_for("audio", mel=MEL))
    codecs = [SoundPalette(path, mel=MEL), SoundPalette(path, mel=MEL, seconds=1.9)]
    first, second = (MultimodalCodec(media=(one,)).digest for one in codecs)
    assert first != second


def test_a_sound_of_another_rate_is_refused(tmp_path):
    path = str(tmp_path / "palette.safetensors")
    sound = np.ones(4_000, np.float32)
    train_palette(
        palette_vectors(Media("audio", sound), mel=MEL), 8, path, made_for("audio", mel=MEL)
    )
    codec = MultimodalCodec(media=(SoundPalette(path, mel=MEL),))
    assert len(codec.encode_media(Media("audio", sound, 8_000))) == 18
    with pytest.raises(DataError, match="16000 samples a second, and its codec is for 8000"):
        codec.encode_media(Media("audio", sound, 16_000))
