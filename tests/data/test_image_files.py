"""Picture files of every mode that Pillow writes, and damaged ones."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxgen.data.image_files import decode_image
from jaxgen.errors import DataError

RED, GREEN = (200, 30, 40), (20, 180, 60)


def file_of(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def two_halves():
    """Red on the left, green on the right."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, :3], pixels[:, 3:] = RED, GREEN
    return Image.fromarray(pixels)


def test_colours_come_back_from_each_kind_of_file():
    expected = np.asarray(two_halves())
    for kind in ("PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF"):
        found = decode_image(
            file_of(two_halves(), kind, **{"lossless": True} if kind == "WEBP" else {})
        )
        np.testing.assert_allclose(found, expected, atol=1, err_msg=kind)
    found = decode_image(file_of(two_halves(), "JPEG", quality=95))
    np.testing.assert_allclose(found[:, [0, 5]], expected[:, [0, 5]], atol=12)


def test_a_palette_grey_and_one_bit_become_rgb():
    palette = two_halves().convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_allclose(decode_image(file_of(palette)), np.asarray(two_halves()), atol=4)
    grey = Image.fromarray(np.array([[0, 100, 255]], np.uint8))
    assert decode_image(file_of(grey)).tolist() == [[[0] * 3, [100] * 3, [255] * 3]]
    bits = Image.fromarray(np.array([[False, True]]))
    assert decode_image(file_of(bits)).tolist() == [[[0] * 3, [255] * 3]]


def test_sixteen_bits_keep_their_brightness():
    """As 8-bit files they would be white wherever they are above 255."""
    deep = Image.fromarray(np.array([[0, 32_768, 65_535]], np.uint16))
    assert decode_image(file_of(deep)).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]


def test_cmyk_becomes_rgb():
    ink = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    np.testing.assert_allclose(decode_image(file_of(ink, "TIFF"))[0, 0], (255, 0, 0), atol=1)


@pytest.mark.parametrize("background", [(255, 255, 255), (10, 20, 30)])
def test_what_is_transparent_shows_the_background(background):
    clear = Image.new("RGBA", (2, 1), (*RED, 255))
    clear.putpixel((1, 0), (*GREEN, 0))
    found = decode_image(file_of(clear), background=background)
    assert found.tolist() == [[list(RED), list(background)]]
    half = Image.new("RGBA", (1, 1), (*RED, 128))
    mixed = (np.array(RED) * 128 + np.array(background) * 127) / 255
    np.testing.assert_allclose(
        decode_image(file_of(half), background=background)[0, 0], mixed, atol=1
    )
    named = Image.new("P", (1, 1), 0)
    named.putpalette([*RED, *GREEN])
    found = decode_image(file_of(named, transparency=0), background=background)
    assert found.tolist() == [[list(background)]]


def test_the_rotation_that_a_camera_notes_is_made():
    exif = Image.Exif()
    exif[274] = 6  # Turn clockwise by a quarter.
    found = decode_image(file_of(two_halves(), "PNG", exif=exif))
    assert found.shape == (6, 4, 3) and tuple(found[0, 0]) == RED and tuple(found[5, 0]) == GREEN


def test_one_pixel_is_a_picture():
    assert decode_image(file_of(Image.new("RGB", (1, 1), RED))).tolist() == [[list(RED)]]


def bomb(width, height):
    """A PNG of some hundred bytes whose header says how many pixels follow."""

    def chunk(name, content):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_more_pixels_than_are_decoded_are_refused_before_any_is():
    with pytest.raises(DataError, match=r"a\.png has hundreds of millions of pixels, and at most"):
        decode_image(bomb(30_000, 30_000), "a.png")
    with pytest.raises(DataError, match=r"a\.png has 9000 x 9000 pixels, and at most 67,108,864"):
        decode_image(bomb(9_000, 9_000), "a.png")
    with pytest.raises(DataError, match="at most 3 are decoded"):
        decode_image(file_of(Image.new("RGB", (2, 2))), most_pixels=3)


def test_what_is_no_picture_is_told():
    for data, words in (
        (b"", "is empty"),
        (b"hello", "is no PNG"),
        (b"%!PS-Adobe-3.0 EPSF", "is no"),
    ):
        with pytest.raises(DataError, match=words):
            decode_image(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_a_file_that_is_cut_short_is_refused(kind):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = file_of(Image.fromarray(noise), kind)
    for share in (0.05, 0.3, 0.6, 0.9):
        with pytest.raises(DataError, match=r"cannot be decoded|is no PNG"):
            decode_image(data[: int(share * len(data))])


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_changed_bytes_give_a_picture_or_one_message(data):
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"]))
    content = bytearray(file_of(Image.fromarray(noise), kind))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        found = decode_image(bytes(content), most_pixels=10_000)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
