"""Media among the tokens of a text: what a picture, a sound or a clip is as codes of a vocabulary.

A medium's codes have a range of ids of their own, and lie between a begin and an end token. Where a
code lies in its picture follows from its number in the run:

    <|image_begin|> 300 517 300 412 <|image_end|>      a picture of 2 x 2 codes
                    0,0 0,1 1,0 1,1                    row, column
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from jaxgen.errors import DataError

Modality = Literal["image", "audio", "video"]
TEXT = "text"
Grid = tuple[int, int, int]
"""How many codes lie along time, height and width."""


class Media(NamedTuple):
    """A picture, sound or clip of a record.

    Attributes:
      modality: which of them.
      values: uint8 [height, width, 3]; float32 [samples] in [-1, 1]; uint8 [frames, height, width,
        3].
      rate: samples a second of a sound, where it is known.
    """

    modality: Modality
    values: np.ndarray
    rate: int | None = None


class ArrayForm(NamedTuple):
    """The shape and the dtype of what a model reads of one picture, sound or clip."""

    shape: tuple[int, ...]
    dtype: str


@runtime_checkable
class MediaCodec(Protocol):
    """Turns one modality into codes and back; a frozen dataclass with these methods.

    It may have a `size`, the height and width that files of pictures are resized to, a `rate`, the
    samples a second of its sounds, and `KEPT_FILES`, as those of `codecs.palettes` have them. One
    whose media are vectors has `form`, `array`, `token`, `begin` and `end`, see `codecs.vectors`.

    Attributes:
      modality: "image", "audio" or "video".
      num_codes: codes lie in [0, num_codes).
      grid: how many codes of a whole one lie along time, height and width.
      varies: whether it may be shorter in time.
      digest: a text that is equal for equal codecs; kept in the run.
    """

    @property
    def modality(self) -> Modality: ...

    @property
    def num_codes(self) -> int: ...

    @property
    def grid(self) -> Grid: ...

    @property
    def varies(self) -> bool: ...

    @property
    def digest(self) -> str: ...

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Returns the codes [n] int32 by time, row and column; n is at most that of the grid.

        Raises:
          DataError: if the values do not have the form that the codec is made for.
        """
        ...

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Returns the values that codes [n] stand for; n covers whole frames."""
        ...

    def keep_in(self, folder: pathlib.Path) -> None:
        """Stores the codec in a run's folder, or checks the one that is there."""
        ...


@dataclasses.dataclass(frozen=True)
class MediaRange:
    """The ids of one medium in a vocabulary.

    Attributes:
      modality: the name in rows and reports.
      begin_id: the token before the codes; below 0: none.
      end_id: the token after them; likewise.
      first_id: the id of code 0.
      num_codes: ids there are.
      grid: see `MediaCodec`.
      varies: likewise.
      form: of the array that a model reads in place of codes; the one id then is a placeholder,
        which no model writes. None: there are codes.
    """

    modality: Modality
    begin_id: int
    end_id: int
    first_id: int
    num_codes: int
    grid: Grid
    varies: bool
    form: ArrayForm | None = None

    @property
    def size(self) -> int:
        """Returns the most codes of one picture, sound or clip."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def frame(self) -> int:
        """Returns the codes of one moment."""
        return self.grid[1] * self.grid[2]

    @property
    def around(self) -> int:
        """Returns the tokens that begin and end it."""
        return (self.begin_id >= 0) + (self.end_id >= 0)


def media_ranges(codec: Any) -> tuple[MediaRange, ...]:
    """Returns the media of a codec; of one of text alone, ()."""
    return getattr(codec, "media_ranges", ())


def modality_names(codec: Any) -> tuple[str, ...]:
    """Returns "text" and the codec's media, as `Batch.modalities` counts them; () of text alone."""
    ranges = media_ranges(codec)
    return (TEXT, *(one.modality for one in ranges)) if ranges else ()


def locate(tokens: np.ndarray, ranges: Sequence[MediaRange]) -> tuple[np.ndarray, np.ndarray]:
    """Returns what each token of a text is of, and where it lies in its picture, sound or clip.

    Args:
      tokens: [n] ids, with every run of codes from its beginning.
      ranges: the media of the vocabulary.

    Returns:
      [n] int32, 0 for text and otherwise the number of the range, from 1; and [n, 3] int32, time,
      row and column, 0 for text.
    """
    numbers = np.arange(len(tokens))
    modalities = np.zeros(len(tokens), np.int32)
    places = np.zeros((len(tokens), 3), np.int32)
    for number, one in enumerate(ranges, start=1):
        is_code = (tokens >= one.first_id) & (tokens < one.first_id + one.num_codes)
        if not is_code.any():
            continue
        before = np.maximum.accumulate(np.where(is_code, -1, numbers))
        index = (numbers - before - 1)[is_code]
        if not one.varies:  # Where no token begins it, one whole picture follows another.
            index %= one.size
        modalities[is_code] = number
        frame, inside = np.divmod(index, one.frame)
        places[is_code] = np.stack([frame, *np.divmod(inside, one.grid[2])], axis=-1)
    return modalities, places


def media_of(values: np.ndarray, rate: int | None = None) -> Media:
    """Returns an array of a record as the picture, sound or clip that its form says it is.

    Raises:
      DataError: if it is none of them.
    """
    forms: dict[tuple[int, str], Modality] = {
        (3, "uint8"): "image", (1, "float32"): "audio", (4, "uint8"): "video"
    }  # fmt: skip
    modality = forms.get((values.ndim, str(values.dtype)))
    if modality is None or (modality != "audio" and values.shape[-1] != 3) or not values.size:
        raise DataError(
            f"an array of shape {values.shape} and dtype {values.dtype} is neither a picture "
            "(uint8 [height, width, 3]), nor a sound (float32 [samples]), nor a clip (uint8 "
            "[frames, height, width, 3])."
        )
    return Media(modality, values, rate if modality == "audio" else None)


def check_sound(values: np.ndarray, codec: str, seconds: float, rate: int) -> None:
    """Raises DataError unless an array is a sound of finite samples, no longer than `seconds`."""
    most = round(seconds * rate)
    if values.ndim != 1 or not 0 < len(values) <= most:
        raise DataError(
            f"a sound of shape {values.shape} is not one of 1 to {most} samples "
            f"({codec}.seconds={seconds:g} at {rate} a second): cut it."
        )
    if not np.isfinite(values).all():
        raise DataError("a sound has samples that are not finite.")
