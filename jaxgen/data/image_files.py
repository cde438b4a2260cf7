"""Picture files decoded: whatever their mode, into 8-bit RGB, or one clear refusal."""

from __future__ import annotations

import io

import numpy as np

from jaxgen.errors import DataError

MOST_PIXELS = 2**26
"""Of a picture that is decoded: 67 million, whose RGB takes 200 MB."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Decoders that a file from outside may reach."""


def decode_image(
    data: bytes,
    where: str = "a picture",
    background: tuple[int, int, int] = (255, 255, 255),
    most_pixels: int = MOST_PIXELS,
) -> np.ndarray:
    """Returns the pixels of a picture file: [height, width, 3] uint8.

    Palettes, grey, 16 bits and CMYK become RGB; what is transparent is laid over a background; the
    rotation that a camera noted is made. Of several frames the first is taken.

    Args:
      data: the file.
      where: it is from, for messages.
      background: red, green and blue.
      most_pixels: refused above, before any is decoded.

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
        image.load()
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image), background))
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


def _to_rgb(image, background: tuple[int, int, int]):
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, np.float64)
        top = 65_535 if image.mode != "F" else max(1.0, float(values.max(initial=0.0)))
        return Image.fromarray((np.clip(values / top, 0, 1) * 255 + 0.5).astype(np.uint8)).convert(
            "RGB"
        )
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        under = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(under, image)
    return image.convert("RGB")
