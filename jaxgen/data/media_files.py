"""Pictures, sounds and videos of records decoded: files beside a table, or bytes within it."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxgen.data.image_files import MOST_PIXELS, Fit, decode_image, resize_image
from jaxgen.data.protocols import Context, Record
from jaxgen.data.sound_files import decode_sound
from jaxgen.data.sources import REASON_ENDS, OnError
from jaxgen.data.storage import is_remote, open_binary, size_of
from jaxgen.data.video_files import decode_video
from jaxgen.domains import PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError, DataError
from jaxgen.json_values import can_be_written

Names = Mapping[str, str | tuple[str, ...]]
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DecodeMedia:
    """Decodes the fields of a record that hold media, as datasets of every format keep them.

    A field may hold the file's bytes (a member of a WebDataset, a column of Parquet), the columns
    `bytes` and `path` of Hugging Face's Image, Audio and Video, or a path below `folder` (JSON
    lines). `images = {'image': ('jpg', 'png')}` makes the field image of jpg, or of png where there
    is no jpg: uint8 [height, width, 3]. A sound becomes float32 [samples], with the field rate; a
    video uint8 [frames, height, width, 3]. The encoded field goes; a record without a key gets one,
    of all that it held.

    Attributes:
      images: the new field's name to the names that it may have had.
      sounds: likewise.
      videos: likewise.
      texts: fields that must hold text that is not blank, such as the caption.
      folder: that paths are relative to, on this machine or in an object store; None refuses paths.
      height: of pictures and of videos, in pixels; None leaves them as they are, and so for width.
      width: likewise.
      fit: how they get this shape, see `resize_image`.
      rate: of sounds, in samples a second.
      seconds: of sounds, which are cut off or filled up with silence; None leaves their length.
      frame_rate: of videos, in frames a second; None takes all frames.
      frames: of a video, at most.
      on_error: "raise" stops at a record that cannot be decoded; "skip" leaves it out, counts it
        and logs how many were.
      most_pixels: of a picture, or of all frames of a video; refused above, before any is decoded.
      most_bytes: of a file; refused above, before it is read.
    """

    images: Names = dataclasses.field(default_factory=dict)
    sounds: Names = dataclasses.field(default_factory=dict)
    videos: Names = dataclasses.field(default_factory=dict)
    texts: tuple[str, ...] = ()
    folder: str | None = None
    height: PositiveInt | None = None
    width: PositiveInt | None = None
    fit: Fit = "crop"
    rate: PositiveInt | None = None
    seconds: PositiveFloat | None = None
    frame_rate: PositiveFloat | None = None
    frames: PositiveInt | None = None
    on_error: OnError = "raise"
    most_pixels: PositiveInt = MOST_PIXELS
    most_bytes: PositiveInt = 256 * 2**20

    def __post_init__(self):
        check_domains(self, "decode_media")
        names = [name for kind in (self.images, self.sounds, self.videos) for name in kind]
        if len(set(names)) < len(names):
            raise ConfigError(f"decode_media makes {names}; give each field a name of its own.")
        if self.sounds and self.rate is None:
            raise ConfigError("decode_media.sounds needs decode_media.rate, in samples a second.")
        if (self.height is None) != (self.width is None):
            raise ConfigError(
                f"decode_media.height={self.height} and width={self.width}: give both, or neither."
            )

    def apply(self, records: Iterator[Record], context: Context) -> Iterator[Record]:
        """Yields the decoded records."""
        del context
        skipped: collections.Counter[str] = collections.Counter()
        for record in records:
            key = key_of(record)
            try:
                yield self._decoded(record, key)
            except DataError as error:
                if self.on_error == "raise":
                    raise
                reason = str(error).removeprefix(f"record {key}: ")
                skipped[REASON_ENDS.split(reason, maxsplit=1)[0]] += 1
        if skipped:
            listed = ", ".join(f"{count}: {reason}" for reason, count in skipped.most_common(5))
            logger.warning("decode_media: %d skipped (%s)", skipped.total(), listed)

    def _decoded(self, record: Record, key: str) -> Record:
        for name in self.texts:
            if not str(record.get(name) or "").strip():
                raise DataError(
                    f"record {key}: no text in the field {name!r}; it has {sorted(record)}."
                )
        made: Record = {}
        used: set[str] = set()
        decoders: list[tuple[Names, Callable[[bytes, str], np.ndarray]]] = [
            (self.images, self._image), (self.sounds, self._sound), (self.videos, self._video),
        ]  # fmt: skip
        for names, decode in decoders:
            for name, old in names.items():
                choices = (old,) if isinstance(old, str) else old
                found = next((one for one in choices if record.get(one) is not None), None)
                if found is None:
                    raise DataError(
                        f"record {key}: no field {' or '.join(map(repr, choices))} to decode as "
                        f"{name}; it has {sorted(record)}."
                    )
                used.add(found)
                where = f"record {key}: the field {found!r}"
                made[name] = decode(self._bytes(record[found], where), where)
        if self.sounds:
            made["rate"] = self.rate
        kept = {name: value for name, value in record.items() if name not in used}
        return {"key": key, **kept, **made}

    def _image(self, data: bytes, where: str) -> np.ndarray:
        return decode_image(
            data, where, most_pixels=self.most_pixels, size=self._size, fit=self.fit
        )

    @property
    def _size(self) -> tuple[int, int] | None:
        return None if self.height is None or self.width is None else (self.height, self.width)

    def _resized(self, image: np.ndarray) -> np.ndarray:
        return image if self._size is None else resize_image(image, self._size, self.fit)

    def _sound(self, data: bytes, where: str) -> np.ndarray:
        assert self.rate is not None, "checked at the beginning"
        sound = decode_sound(data, self.rate, where)
        if self.seconds is None:
            return sound
        count = round(self.seconds * self.rate)
        return np.pad(sound[:count], (0, max(0, count - len(sound))))

    def _video(self, data: bytes, where: str) -> np.ndarray:
        return decode_video(
            data, where, self.frame_rate, self.frames, self._resized, self.most_pixels
        )

    def _bytes(self, value: Any, where: str) -> bytes:
        """Returns the bytes of a file, given as such or by its path."""
        if isinstance(value, Mapping) and ("bytes" in value or "path" in value):
            value = value["path"] if value.get("bytes") is None else value["bytes"]
        if isinstance(value, str):
            value = self._file(value, where)
        if not isinstance(value, bytes | bytearray):
            raise DataError(f"{where} holds {value!a:.60}, not a file's bytes or its path.")
        if len(value) > self.most_bytes:
            raise DataError(f"{where} has {len(value):,} bytes, and {self.most_bytes:,} at most.")
        return bytes(value)

    def _file(self, name: str, where: str) -> bytes:
        if self.folder is None:
            raise DataError(
                f"{where} holds the path {name!r}; set decode_media.folder, which paths are "
                "relative to."
            )
        path = path_below(self.folder, name, where)
        try:
            size = size_of(path)
        except OSError as error:
            raise DataError(f"{where}: {path} cannot be read: {error.strerror}.") from error
        if size > self.most_bytes:
            raise DataError(f"{where} has {size:,} bytes, and {self.most_bytes:,} at most.")
        with open_binary(path) as stream:
            return stream.read(self.most_bytes + 1)


def path_below(folder: str, name: str, where: str) -> str:
    """Returns the path of a file of a folder.

    Raises:
      DataError: if it leads out of the folder, by its name or by a link.
    """
    parts = name.replace("\\", "/").split("/")
    is_outside = name.startswith("/") or "://" in name or ".." in parts or "\0" in name
    is_outside = is_outside or not can_be_written(name)
    if not is_outside and is_remote(folder):
        return f"{folder.rstrip('/')}/{name}"
    root = os.path.realpath(os.path.expanduser(folder))
    path = root if is_outside else os.path.realpath(os.path.join(root, name))
    if is_outside or os.path.commonpath([root, path]) != root:
        raise DataError(f"{where} names {name!a}, which is not below the folder {folder}.")
    if not os.path.isfile(path):
        raise DataError(f"{where}: there is no file {path}.")
    return path


def key_of(record: Record) -> str:
    """Returns what tells a record from others: its key, WebDataset's, or a hash of all its fields.

    It must be asked for before arrays take the place of bytes, as these are hashed whole.
    """
    for name in ("key", "__key__"):
        if name in record:
            return str(record[name])
    text = json.dumps(record, sort_keys=True, default=_text_of)
    return _digest(text.encode("utf-8", "surrogatepass"))


def _text_of(value: Any) -> str:
    return _digest(value) if isinstance(value, bytes | bytearray) else str(value)


def _digest(data: bytes | bytearray) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
