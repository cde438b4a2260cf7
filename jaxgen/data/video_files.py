"""Video files decoded: frames at the times that are asked for, or one clear refusal."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator

import numpy as np

from jaxgen.data.image_files import MOST_PIXELS
from jaxgen.errors import ConfigError, DataError

MOST_FRAMES = 2**16
"""Of a file that are decoded: 36 minutes at 30 a second."""
ANIMATIONS = ("GIF", "WEBP", "PNG")
"""Formats whose frames Pillow decodes; all others need PyAV."""
DEFAULT_SECONDS = 0.1
"""A frame of an animation lasts so long where its file says no time, as in browsers."""
MISSING_AT_MOST = 0.05
"""Of a film's time, as sound may be longer than pictures and the last one's time is not known."""
Timed = tuple[float, float, Callable[[], np.ndarray]]
"""When a frame is shown, for how long, in seconds, and what makes its [height, width, 3] uint8."""


def decode_video(
    data: bytes,
    where: str = "a video",
    frame_rate: float | None = None,
    frames: int | None = None,
    resize: Callable[[np.ndarray], np.ndarray] | None = None,
    most_pixels: int = MOST_PIXELS,
) -> np.ndarray:
    """Returns the frames of a video file: [frames, height, width, 3] uint8.

    Animations (GIF, WebP, PNG) are decoded by Pillow, other files by PyAV, which must be installed.

    Args:
      data: the file.
      where: it is from, for messages.
      frame_rate: frames a second that are taken, each the one that is shown at its time, whatever
        the times in the file; None takes those of the file.
      frames: at most so many are taken, from the beginning; None takes all.
      resize: is applied to each frame that is taken.
      most_pixels: of a frame before, and of all frames after `resize`; refused above.

    Raises:
      DataError: if it cannot be decoded, is damaged, or has too many frames or pixels.
      ConfigError: if it needs PyAV, and that is not installed.
    """
    if not data:
        raise DataError(f"{where} is empty, not a video.")
    kept: list[np.ndarray] = []
    pixels = 0
    for make in _taken(_timed(data, where, most_pixels), frame_rate):
        if frames is not None and len(kept) == frames:
            break
        try:
            frame = make()
        except Exception as error:  # Of a decoder, as below.
            raise _cannot(where, error) from error
        kept.append(frame if resize is None else resize(frame))
        pixels += kept[-1].shape[0] * kept[-1].shape[1]
        if pixels > most_pixels or len(kept) > MOST_FRAMES:
            raise DataError(
                f"{where} has more than {len(kept) - 1:,} frames of {kept[-1].shape[1]} x "
                f"{kept[-1].shape[0]}, and at most {most_pixels:,} pixels and {MOST_FRAMES:,} "
                "frames are decoded: take fewer frames, or a smaller size."
            )
    if not kept:
        raise DataError(f"{where} has no frames.")
    if len({frame.shape for frame in kept}) > 1:
        raise DataError(f"{where} has frames of several sizes; give it a size.")
    return np.stack(kept)


def _taken(timed: Iterator[Timed], frame_rate: float | None) -> Iterator[Callable[[], np.ndarray]]:
    """Yields the frame that is shown at each multiple of 1 / frame_rate."""
    if frame_rate is None:
        yield from (frame for _, _, frame in timed)
        return
    count, end, shown, start = 0, 0.0, None, 0.0
    for number, (time, seconds, frame) in enumerate(timed):
        start = time if number == 0 else start
        # A moment that a frame begins at is its own, whatever the rounding of its time.
        while shown is not None and count / frame_rate < time - start - 1e-6:
            yield shown
            count += 1
        shown, end = frame, time - start + seconds
    while shown is not None and count / frame_rate < end - 1e-6:
        yield shown
        count += 1


def _timed(data: bytes, where: str, most_pixels: int) -> Iterator[Timed]:
    """Yields the frames of a file; all that a decoder raises becomes a DataError."""
    is_webp = data.startswith(b"RIFF") and data[8:12] == b"WEBP"
    decode = _animation if is_webp or data.startswith((b"GIF8", b"\x89PNG")) else _film
    try:
        for number, timed in enumerate(decode(data, where, most_pixels)):
            if number > MOST_FRAMES:
                raise DataError(
                    f"{where} has more than {MOST_FRAMES:,} frames: cut it into pieces."
                )
            yield timed
    except (DataError, ConfigError, GeneratorExit):
        raise
    # Decoders raise errors of many kinds on damaged files.
    except Exception as error:
        raise _cannot(where, error) from error


def _cannot(where: str, error: Exception) -> DataError:
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return DataError(f"{where} cannot be decoded: {reason}.")


def _check_pixels(where: str, width: int, height: int, most_pixels: int) -> None:
    if width * height > most_pixels:
        raise DataError(
            f"{where} has frames of {width} x {height} pixels, and at most {most_pixels:,} are "
            "decoded: make them smaller."
        )


def _animation(data: bytes, where: str, most_pixels: int) -> Iterator[Timed]:
    from PIL import Image

    image = Image.open(io.BytesIO(data), formats=ANIMATIONS)
    _check_pixels(where, *image.size, most_pixels)
    time = 0.0
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        rgba = image.convert("RGBA")
        under = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        frame = np.asarray(Image.alpha_composite(under, rgba).convert("RGB"))
        seconds = float(image.info.get("duration") or 0) / 1000 or DEFAULT_SECONDS
        yield time, seconds, functools.partial(np.asarray, frame)
        time += seconds


def _film(data: bytes, where: str, most_pixels: int) -> Iterator[Timed]:
    try:
        import av  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        # Not a fault of the file, which on_error="skip" would leave out.
        raise ConfigError(
            f"{where} is no {', '.join(ANIMATIONS[:-1])} or {ANIMATIONS[-1]} animation, and other "
            'videos need a library that is not installed: pip install "jaxgen[av]".'
        ) from error
    with av.open(io.BytesIO(data)) as container:
        if not container.streams.video:
            raise DataError(f"{where} has no video in it.")
        stream = container.streams.video[0]
        _check_pixels(where, stream.width, stream.height, most_pixels)
        seconds = 1 / float(stream.average_rate) if stream.average_rate else DEFAULT_SECONDS
        first, time = None, 0.0
        for number, frame in enumerate(container.decode(stream)):
            _check_pixels(where, frame.width, frame.height, most_pixels)
            time = number * seconds if frame.time is None else float(frame.time)
            first = time if first is None else first
            # Those that no time falls on are not worth the conversion.
            yield time, seconds, functools.partial(frame.to_ndarray, format="rgb24")
        if stream.duration and stream.time_base:
            expected = float(stream.duration * stream.time_base)
        else:
            expected = (container.duration or 0) / av.time_base
        found = 0.0 if first is None else time - first + seconds
        # FFmpeg takes what is there of a file that was cut off, and says nothing.
        if found < expected - max(2 * seconds, MISSING_AT_MOST * expected):
            raise DataError(
                f"{where} is cut short: {found:.2f} of {expected:.2f} seconds are there."
            )
