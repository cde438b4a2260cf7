"""Media of every format of data set, whole and damaged, from the files to the arrays."""

import dataclasses
import io
import json
import os
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile
from support.media_writers import (
    MEDIA_WRITERS,
    RATE,
    a_sample,
    bomb,
    file_of,
    noise,
    picture,
    tone,
    write_media_jsonl,
    write_media_parquet,
)

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.features import Text
from jaxgen.data.media_files import DecodeMedia, key_of
from jaxgen.data.protocols import Context
from jaxgen.data.tables import BYTES_AT_ONCE, Parquet
from jaxgen.data.tasks import Task
from jaxgen.data.text_files import Jsonl
from jaxgen.errors import ConfigError, DataError, JaxgenError

NOTHING = Context(lambda: iter(()))
BOTH = DecodeMedia(
    images={"image": ("jpg", "png")}, sounds={"sound": "wav"}, texts=("caption",), rate=RATE
)


def decoded(source, step, folder=None):
    """The records of a task that decodes media, in the order of the source."""
    step = dataclasses.replace(step, folder=None if folder is None else str(folder))
    return list(
        Task("media", source, Text("caption"), ByteCodec(), preprocessors=(step,)).records("train")
    )


@pytest.fixture(params=MEDIA_WRITERS)
def read(request, tmp_path):
    """Returns what writes samples in one of the formats and reads them again."""

    def write_and_read(samples, step=BOTH):
        return decoded(MEDIA_WRITERS[request.param](tmp_path, samples), step, tmp_path)

    return write_and_read


def test_every_format_gives_the_same_records(read):
    colours = [(200, 30, 40), (20, 180, 60), (0, 0, 255)]
    samples = [a_sample(str(i), png=file_of(picture(c))) for i, c in enumerate(colours)]
    records = read(samples)
    assert [record["key"] for record in records] == ["0", "1", "2"]
    for record, colour in zip(records, colours, strict=True):
        assert record["image"].dtype == np.uint8 and record["image"].shape == (6, 8, 3)
        assert (record["image"] == colour).all()
        expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(800) / RATE)
        assert record["sound"].dtype == np.float32 and record["rate"] == RATE
        np.testing.assert_allclose(record["sound"], expected, atol=1e-4)
        assert record["caption"] == f"picture {record['key']}"
        assert not {"png", "wav"} & record.keys()


GOOD_PICTURES = {
    "16 bits": (file_of(Image.fromarray(np.full((6, 8), 32_768, np.uint16))), (128, 128, 128)),
    "palette": (file_of(picture().quantize(4)), (200, 30, 40)),
    "alpha": (file_of(Image.new("RGBA", (8, 6), (200, 30, 40, 0))), (255, 255, 255)),
    "CMYK": (file_of(Image.new("CMYK", (8, 6), (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
    "CMYK JPEG": (file_of(Image.new("CMYK", (8, 6), (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
    "1 x 1": (file_of(picture(size=(1, 1))), (200, 30, 40)),
    "grey": (file_of(picture(mode="L")), (81, 81, 81)),
}


@pytest.mark.parametrize("name", GOOD_PICTURES)
def test_unusual_pictures_are_decoded_rightly(name, read):
    data, colour = GOOD_PICTURES[name]
    (record,) = read([a_sample(png=data)])
    assert record["image"].shape == ((1, 1, 3) if name == "1 x 1" else (6, 8, 3))
    np.testing.assert_allclose(
        record["image"], np.broadcast_to(colour, record["image"].shape), atol=3
    )


GOOD_SOUNDS = {
    "8 channels": tone(channels=8),
    "another rate": tone(rate=44_100),
    "half the rate": tone(rate=4000),
}


@pytest.mark.parametrize("name", GOOD_SOUNDS)
def test_unusual_sounds_are_decoded_rightly(name, read):
    (record,) = read([a_sample(wav=GOOD_SOUNDS[name])])
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(800) / RATE)
    assert record["sound"].shape == (800,)
    np.testing.assert_allclose(record["sound"][100:-100], expected[100:-100], atol=0.01)


def not_finite(value):
    file = io.BytesIO()
    wavfile.write(file, RATE, np.array([0.1, value], np.float32))
    return file.getvalue()


BAD = {
    "a truncated PNG": ({"png": file_of(noise())[:900]}, "'png' cannot be decoded"),
    "a truncated JPEG": ({"png": file_of(noise(), "JPEG")[:500]}, "'png' cannot be decoded"),
    "a truncated WAV": ({"wav": tone()[:700]}, "'wav' is cut short"),
    "an empty picture": ({"png": b""}, "'png' is empty"),
    "an empty sound": ({"wav": b""}, "'wav' is empty"),
    "a sound without samples": ({"wav": tone(seconds=0)}, "'wav' has no samples"),
    "a bomb": ({"png": bomb(30_000, 30_000)}, "'png' has hundreds of millions of pixels"),
    "a small bomb": ({"png": bomb(9_000, 9_000)}, "9000 x 9000 pixels, and at most 67,108,864"),
    "text": ({"png": b"<html>not found</html>"}, "'png' is no PNG"),
    "NaN pixels": (
        {"png": file_of(Image.fromarray(np.full((6, 8), np.nan, np.float32)), "TIFF")},
        "pixels that are not finite",
    ),
    "NaN samples": ({"wav": not_finite(np.nan)}, "samples that are not finite"),
    "endless samples": ({"wav": not_finite(np.inf)}, "samples that are not finite"),
    "no picture": ({"png": None}, "no field 'jpg' or 'png' to decode as image"),
    "no caption": ({"caption": None}, "no text in the field 'caption'"),
    "a blank caption": ({"caption": " "}, "no text in the field 'caption'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_decoded_is_named_or_counted(name, read, caplog):
    fields, words = BAD[name]
    samples = [a_sample("good"), a_sample("bad", **fields), a_sample("last")]
    with pytest.raises(DataError, match=f"record bad: .*{words}") as error:
        read(samples)
    assert "\n" not in str(error.value)
    kept = read(samples, dataclasses.replace(BOTH, on_error="skip"))
    assert [record["key"] for record in kept] == ["good", "last"]
    assert "decode_media: 1 skipped (1: " in caplog.text


def test_pictures_get_the_size_that_is_asked_for():
    halves = np.zeros((4, 8, 3), np.uint8)
    halves[:, :4], halves[:, 4:] = (200, 0, 0), (0, 200, 0)
    record = {"png": file_of(Image.fromarray(halves)), "key": "a"}

    def resized(**settings):
        step = DecodeMedia({"image": "png"}, **settings)
        (found,) = step.apply(iter([record]), NOTHING)
        return found["image"]

    assert (resized(height=4, width=8) == halves).all()
    assert (resized(height=4, width=4) == halves[:, 2:6]).all()  # The middle.
    padded = resized(height=8, width=8, fit="pad")
    assert (padded[[0, 1, 6, 7]] == 255).all() and (padded[2:6] == halves).all()
    stretched = resized(height=4, width=4, fit="stretch")
    assert stretched[0, 0].argmax() == 0 and stretched[0, 3].argmax() == 1
    # Each pixel of a smaller picture is about the mean of those that it takes the place of.
    assert abs(int(resized(height=2, width=2, fit="stretch")[..., 0].mean()) - 100) < 8
    tall = DecodeMedia({"image": "png"}, height=50, width=3)
    (found,) = tall.apply(iter([record]), NOTHING)
    assert found["image"].shape == (50, 3, 3)


def test_sounds_get_the_length_that_is_asked_for():
    def cut(seconds):
        step = DecodeMedia(sounds={"sound": "wav"}, rate=RATE, seconds=seconds)
        (found,) = step.apply(iter([{"wav": tone(), "key": "a"}]), NOTHING)
        return found["sound"]

    assert len(cut(0.05)) == 400 and len(cut(0.2)) == 1600
    assert (cut(0.2)[800:] == 0).all() and (cut(0.2)[:400] == cut(0.05)).all()


OUTSIDE = ["../secret.png", "/etc/passwd", "files/../../secret.png", "..\\secret.png", "link.png",
           "linked/secret.png", "http://host/a.png", "s3://bucket/a.png", "a\0b"]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("column", ["text", "struct"])
def test_paths_stay_in_their_folder(name, column, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(file_of(picture()))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "linked").symlink_to(tmp_path)
    value = name if column == "text" else {"bytes": None, "path": name}
    (folder / "a.jsonl").write_text(json.dumps({"png": value}) + "\n")
    source = Jsonl(str(folder), heldout_fraction=0.0)
    with pytest.raises(DataError, match="not below the folder"):
        decoded(source, DecodeMedia({"image": "png"}), folder)
    with pytest.raises(DataError, match=r"set decode_media\.folder"):
        decoded(source, DecodeMedia({"image": "png"}))


def test_a_path_to_nothing_and_a_long_file_are_named(tmp_path):
    source = write_media_jsonl(tmp_path, [a_sample()])
    with pytest.raises(DataError, match=r"'png' has \d+ bytes, and 10 at most"):
        decoded(source, dataclasses.replace(BOTH, most_bytes=10), tmp_path)
    os.remove(tmp_path / "files" / "a.png")
    with pytest.raises(DataError, match=r"record a: the field 'png': there is no file .*a\.png"):
        decoded(source, BOTH, tmp_path)
    (tmp_path / "a.jsonl").write_text('{"png": 7, "key": "a"}\n')
    with pytest.raises(DataError, match="holds 7, not a file's bytes or its path"):
        decoded(source, DecodeMedia({"image": "png"}), tmp_path)


def test_paths_may_be_in_an_object_store(tmp_path):
    import fsspec

    fsspec.filesystem("memory").pipe("/pictures/a/1.png", file_of(picture()))
    (tmp_path / "a.jsonl").write_text('{"png": "a/1.png"}\n')
    source = Jsonl(str(tmp_path), heldout_fraction=0.0)
    (record,) = decoded(source, DecodeMedia({"image": "png"}), "memory://pictures")
    assert record["image"].shape == (6, 8, 3)


def test_records_without_a_key_get_one_of_all_their_fields():
    """Arrays as texts are cut short, so that a key of the decoded record would be another's."""
    large = np.zeros((64, 64, 3), np.uint8)
    other = large.copy()
    other[32, 32] = 1
    records = [{"png": file_of(Image.fromarray(pixels))} for pixels in (large, other)]
    step = DecodeMedia({"image": "png"})
    keys = [record["key"] for record in step.apply(iter(records), NOTHING)]
    assert len(set(keys)) == 2 and keys == [key_of(record) for record in records]
    assert key_of({"__key__": "part/7", "png": b""}) == "part/7"


def animation(durations, kind="GIF"):
    """Frames of growing brightness, each shown for so many milliseconds."""
    frames = [Image.new("RGB", (6, 4), (40 * i,) * 3) for i in range(len(durations))]
    return file_of(
        frames[0], kind, save_all=True, append_images=frames[1:], duration=list(durations), loop=0,
        **{"lossless": True} if kind == "WEBP" else {},
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_frames_are_taken_at_their_times_whatever_the_frame_rate(kind):
    """The second frame is shown for 300 ms, and so comes three times at 10 a second."""
    record = {"clip": animation([100, 300, 100, 200], kind), "key": "a"}

    def levels(**settings):
        step = DecodeMedia(videos={"video": "clip"}, **settings)
        (found,) = step.apply(iter([record]), NOTHING)
        assert found["video"].dtype == np.uint8 and found["video"].shape[1:] == (4, 6, 3)
        return np.round(found["video"].mean((1, 2, 3)) / 40).astype(int).tolist()

    assert levels() == [0, 1, 2, 3]
    assert levels(frame_rate=10.0) == [0, 1, 1, 1, 2, 3, 3]
    assert levels(frame_rate=5.0) == [0, 1, 2, 3] and levels(frame_rate=2.5) == [0, 2]
    assert levels(frame_rate=10.0, frames=3) == [0, 1, 1]


def test_what_is_no_video_is_told():
    step = DecodeMedia(videos={"video": "clip"}, height=2, width=3)
    still = {"clip": file_of(picture()), "key": "a"}
    (found,) = step.apply(iter([still]), NOTHING)
    assert found["video"].shape == (1, 2, 3, 3)
    whole = animation([100] * 5)
    for data, words in (
        (b"", "is empty"),
        (whole[: len(whole) // 2], "cannot be decoded"),
        (b"hello", r"cannot be decoded|pip install \"jaxgen\[av\]\""),
        (bomb(30_000, 30_000), "30000 x 30000|hundreds of millions|decompression bomb"),
    ):
        with pytest.raises(JaxgenError, match=words):
            list(step.apply(iter([{"clip": data, "key": "a"}]), NOTHING))
    small = dataclasses.replace(step, height=None, width=None, most_pixels=100)
    with pytest.raises(DataError, match="more than 4 frames of 6 x 4, and at most 100 pixels"):
        list(small.apply(iter([{"clip": whole, "key": "a"}]), NOTHING))


def test_long_columns_do_not_fill_the_memory(tmp_path):
    """48 MB of pictures in a row group, which is in memory once; few rows are objects at a time."""
    count, size = 96, 500_000
    rng = np.random.default_rng(0)
    write_media_parquet(tmp_path, [{"key": str(i), "png": rng.bytes(size)} for i in range(count)])
    tracemalloc.start()
    source = Parquet(str(tmp_path), heldout_fraction=0.0, key_field="key")
    lengths = [len(record["png"]) for record in source.read("train")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lengths == [size] * count and peak < count * size + 2 * BYTES_AT_ONCE


@pytest.mark.parametrize("settings", [
    {"images": {"a": "b"}, "sounds": {"a": "c"}, "rate": 8000}, {"sounds": {"sound": "wav"}},
    {"images": {"a": "b"}, "height": 4}, {"sounds": {"s": "wav"}, "rate": 0},
    {"videos": {"v": "mp4"}, "frames": 0},
], ids=str)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ConfigError):
        DecodeMedia(**settings)


def test_large_pictures_become_small_ones_by_the_mean_of_what_they_show():
    """Of a JPEG only a part of the resolution is decoded, turned as its camera was."""
    ramp = np.linspace(0, 255, 512).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (256, 1))] * 3, axis=-1)
    exif = Image.Exif()
    exif[0x0112] = 6  # Turn clockwise by a quarter.
    for kind in ("JPEG", "PNG"):
        record = {"x": file_of(Image.fromarray(pixels), kind), "key": "a"}
        turned = {"x": file_of(Image.fromarray(pixels), kind, exif=exif), "key": "a"}
        step = DecodeMedia({"image": "x"}, height=8, width=16)
        upright = dataclasses.replace(step, height=16, width=8)
        (found,), (other,) = (
            s.apply(iter([r]), NOTHING) for s, r in ((step, record), (upright, turned))
        )
        expected = ramp.reshape(16, 32).mean(1)
        np.testing.assert_allclose(
            found["image"], np.tile(expected[None, :, None], (8, 1, 3)), atol=3
        )
        np.testing.assert_allclose(
            other["image"], found["image"].transpose(1, 0, 2)[:, ::-1], atol=3
        )


def film(times, kind="matroska"):
    """Frames of growing brightness at times in milliseconds, by PyAV."""
    av = pytest.importorskip("av", reason="PyAV is not installed (the extra av)")
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            level = np.full((16, 32, 3), 20 + 20 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(level, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.mark.parametrize("kind", ["matroska", "mp4"])
def test_films_are_read_at_their_times_and_not_in_part(kind):
    step = DecodeMedia(videos={"video": "mp4"}, frame_rate=10.0)
    data = film([0, 100, 400, 500, 600, 700, 800, 900, 1000, 1100], kind)
    (found,) = step.apply(iter([{"mp4": data, "key": "a"}]), NOTHING)
    levels = np.round((found["video"].mean((1, 2, 3)) - 20) / 20).astype(int).tolist()
    assert levels[:12] == [0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    with pytest.raises(DataError, match=r"is cut short|cannot be decoded"):
        list(step.apply(iter([{"mp4": data[: len(data) * 3 // 5], "key": "a"}]), NOTHING))
    with pytest.raises(DataError, match="frames of 32 x 16 pixels, and at most 500"):
        small = dataclasses.replace(step, most_pixels=500)
        list(small.apply(iter([{"mp4": data, "key": "a"}]), NOTHING))
