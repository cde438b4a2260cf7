"""Files of pictures, sounds and clips that `jaxgen generate` reads and writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.codecs.media import Media, MediaCodec, MediaRange, media_ranges
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.codecs.vectors import NOT_WRITTEN
from jaxgen.data.image_files import decode_image, encode_gif, encode_png, resize_image
from jaxgen.data.sound_files import decode_sound, encode_wav
from jaxgen.errors import ConfigError, DataError

ENDINGS = {".png": "image", ".wav": "audio", ".gif": "video"}
"""The files that are written, and what is in them."""


def read_image(path: str, codec: Any) -> tuple[np.ndarray, tuple[Media, ...]]:
    """Returns the ids of a picture file, cut and resized to what the codec is for.

    With them comes what a model reads beside them, see `Example.media`.

    Raises:
      DataError: if it cannot be decoded, or the codec has no pictures.
    """
    one, _ = _medium(codec, "image")
    height, width = getattr(one, "size", (None, None))
    values = decode_image(_content(path), path)
    if height is not None and width is not None:
        values = resize_image(values, (height, width))
    return _encoded(Media("image", values), codec)


def read_sound(path: str, codec: Any) -> tuple[np.ndarray, tuple[Media, ...]]:
    """Returns the ids of a sound file, at the codec's rate, and what a model reads beside them.

    Raises:
      DataError: if it cannot be decoded, or the codec has no sounds.
    """
    one, _ = _medium(codec, "audio")
    values = decode_sound(_content(path), _rate(one), path)
    return _encoded(Media("audio", values), codec)


def _encoded(media: Media, codec: MultimodalCodec) -> tuple[np.ndarray, tuple[Media, ...]]:
    array = codec.array_of(media)
    beside = () if array is None else (media._replace(values=array),)
    return codec.encode_media(media), beside


def range_of_output(path: str, codec: Any) -> MediaRange:
    """Returns what a model must make for a file of this ending.

    Raises:
      ConfigError: if no such file is written.
      DataError: if the codec has no such medium, or one that is read alone.
    """
    modality = ENDINGS.get(Path(path).suffix.lower())
    if modality is None:
        raise ConfigError(
            f"--output={path} ends in none of {', '.join(ENDINGS)}: a picture is written as .png, "
            "a sound as .wav, a clip as .gif."
        )
    found = _medium(codec, modality)[1]
    if found.form is not None:
        raise DataError(NOT_WRITTEN.format(modality))
    return found


def write_media(path: Path, media: Media, codec: Any, notes: Mapping[str, str]) -> None:
    """Writes a picture, a sound or a clip; a PNG keeps the notes.

    Raises:
      DataError: if it cannot be written.
    """
    if media.modality == "image":
        content = encode_png(media.values, notes)
    elif media.modality == "audio":
        content = encode_wav(media.values, _rate(_medium(codec, "audio")[0]))
    else:
        content = encode_gif(media.values)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from error


def check_writable(path: Path, is_folder: bool = False) -> None:
    """Raises DataError where nothing can be written, before anything is computed.

    Args:
      path: what is to be written.
      is_folder: whether that is a folder, of files.
    """
    folder = path if is_folder else path.parent
    found = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    reason = None
    if not found.is_dir():
        reason = f"{found} is a file, not a folder"
    elif not os.access(found, os.W_OK):
        reason = f"{found} does not let you write"
    elif not is_folder and path.is_dir():
        reason = "it is a folder; give the name of a file in it"
    if reason:
        raise DataError(f"{path} cannot be written: {reason}.")


def numbered(path: str, count: int) -> list[Path]:
    """Returns the names of so many files: the name itself, or name-0, name-1 and so on."""
    whole = Path(path)
    if count == 1:
        return [whole]
    return [whole.with_name(f"{whole.stem}-{number}{whole.suffix}") for number in range(count)]


def _medium(codec: Any, modality: str) -> tuple[MediaCodec, MediaRange]:
    if isinstance(codec, MultimodalCodec):
        for one, place in zip(codec.media, media_ranges(codec), strict=True):
            if one.modality == modality:
                return one, place
    raise DataError(
        f"the run's codec has no {modality}; its modalities are "
        f"{['text', *(one.modality for one in media_ranges(codec))]}."
    )


def _rate(codec: Any) -> int:
    rate = getattr(codec, "rate", None)
    if rate is None:
        raise DataError(f"{type(codec).__name__} does not say its rate, in samples a second.")
    return rate


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
