"""Picture files decoded: whatever their mode, into 8-bit RGB, or one clear refusal."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Literal

import numpy as np

from jaxgen.errors import DataError

MOST_PIXELS = 2**26
"""Of a picture that is decoded: 67 million, whose RGB takes 200 MB."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Decoders that a file from outside may reach."""
Fit = Literal["crop", "pad", "stretch"]
"""How a picture gets another shape: its middle is cut out, it gets edges, or it is distorted."""
WHITE = (255, 255, 255)
ORIENTATION = 0x0112
"""The tag of EXIF for how a camera was turned; 1 is upright."""


def decode_image(
    data: bytes,
    where: str = "a picture",
    background: tuple[int, int, int] = WHITE,
    most_pixels: int = MOST_PIXELS,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
) -> np.ndarray:
    """Returns the pixels of a picture file: [height, width, 3] uint8.

    Palettes, grey, 16 bits and CMYK become RGB; what is transparent is laid over a background; the
    rotation that a camera noted is made. Of several frames the first is taken.

    Args:
      data: the file.
      where: it is from, for messages.
      background: red, green and blue.
      most_pixels: refused above, before any is decoded.
      size: height and width to make of it, see `resize_image`; None leaves them as they are.
      fit: likewise.

    Raises:
      DataError: if it is none of FORMATS, is cut short or damaged, or has too many pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not data:
        raise DataError(f"{where} is empty, not a picture.")
    too_many = f"pixels, and at most {most_pixels:,} are decoded: make it smaller."
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > most_pixels:
            raise DataError(f"{where} has {width} x {height} {too_many}")
        if size is not None:
            # A JPEG of several times the size is decoded at a half, a quarter or an eighth.
            image.draft(None, (2 * max(size), 2 * max(size)))
        image.load()
        if image.getexif().get(ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        image = _to_rgb(image, background)
        return np.asarray(image if size is None else _resized(image, size, fit, background))
    except DataError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own bound, of 179 million.
        raise DataError(f"{where} has hundreds of millions of {too_many}") from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"{where} is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file."
        ) from error
    # Pillow's decoders raise these, and struct.error and SyntaxError, on damaged files.
    except Exception as error:
        raise DataError(f"{where} cannot be decoded: {error}.") from error


def resize_image(
    image: np.ndarray,
    size: tuple[int, int],
    fit: Fit = "crop",
    background: tuple[int, int, int] = WHITE,
) -> np.ndarray:
    """Returns a picture of another size: [height, width, 3] uint8, by bicubic interpolation.

    Args:
      image: [height, width, 3] uint8.
      size: the new height and width.
      fit: "crop" fills the new shape and cuts off what is beyond it, on both sides alike; "pad"
        shows the whole picture and fills the rest with the background; "stretch" changes height
        and width by themselves.
      background: red, green and blue.
    """
    from PIL import Image

    if image.shape[:2] == size:
        return image
    return np.asarray(_resized(Image.fromarray(image), size, fit, background))


def _resized(picture, size: tuple[int, int], fit: Fit, background: tuple[int, int, int]):
    from PIL import Image

    (height, width), box = size, None
    if picture.size == (width, height):
        return picture
    scales = height / picture.height, width / picture.width
    if fit == "pad":
        inner = [max(1, round(side * min(scales))) for side in picture.size]
        whole = Image.new("RGB", (width, height), background)
        place = (width - inner[0]) // 2, (height - inner[1]) // 2
        whole.paste(picture.resize(inner, Image.Resampling.BICUBIC), place)
        return whole
    if fit == "crop" and scales[0] != scales[1]:
        scale = max(scales)
        taken = min(picture.width, width / scale), min(picture.height, height / scale)
        left, top = (picture.width - taken[0]) / 2, (picture.height - taken[1]) / 2
        box = (left, top, left + taken[0], top + taken[1])
    return picture.resize((width, height), Image.Resampling.BICUBIC, box)


def _to_rgb(image, background: tuple[int, int, int]):
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it has pixels that are not finite")
        top = 65_535 if image.mode != "F" else max(1.0, float(values.max(initial=0.0)))
        return Image.fromarray((np.clip(values / top, 0, 1) * 255 + 0.5).astype(np.uint8)).convert(
            "RGB"
        )
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        under = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(under, image)
    return image.convert("RGB")


def encode_png(pixels: np.ndarray, notes: Mapping[str, str] | None = None) -> bytes:
    """Returns a PNG file of [height, width, 3] uint8, with texts that tell how it was made."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    told = PngInfo()
    for name, text in (notes or {}).items():
        # A path may have bytes that are no text.
        told.add_text(name, text.encode("utf-8", "backslashreplace").decode())
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", pnginfo=told)
    return file.getvalue()


def encode_gif(frames: np.ndarray, seconds: float = 0.1) -> bytes:
    """Returns an animated GIF file of [frames, height, width, 3] uint8, so many seconds a frame."""
    from PIL import Image

    first, *rest = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    first.save(
        file,
        format="GIF",
        save_all=True,
        append_images=rest,
        duration=round(seconds * 1000),
        loop=0,
    )
    return file.getvalue()
