"""Media that a model reads as vectors: placeholders among the tokens, and an array beside them.

A picture has as many placeholder tokens as the model makes vectors of it; its pixels go to the
model as they are, and nothing can be written with them. `models.media_config` says what it does.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import NoReturn

import numpy as np

from jaxgen.codecs.media import ArrayForm, Grid, Modality
from jaxgen.codecs.mel import MelFrames
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class ImageVectors:
    """Pictures of one size whose pixels a model's encoder reads.

    Attributes:
      height: of a picture, in pixels.
      width: of a picture.
      rows: of vectors that the model makes of one.
      columns: of vectors.
      token: the control token of the text's codec that stands for each vector.
      begin: the one before them; None: none.
      end: the one after them; None: none.
      drawn: whether a model draws pictures where they answer (Transfusion); it is told where by the
        token before the vectors.
    """

    height: PositiveInt = 16
    width: PositiveInt = 16
    rows: PositiveInt = 4
    columns: PositiveInt = 4
    token: str = "<|image|>"
    begin: str | None = "<|image_begin|>"
    end: str | None = "<|image_end|>"
    drawn: bool = False

    num_codes = 1
    varies = False
    digest = "pixels"

    def __post_init__(self):
        check_domains(self, "image_vectors")
        if self.drawn and self.begin is None:
            raise ConfigError(
                "image_vectors.drawn=True needs image_vectors.begin, the token by which a model "
                "says that it draws."
            )

    @property
    def modality(self) -> Modality:
        return "image"

    @property
    def size(self) -> tuple[int, int]:
        """Returns the height and width of a picture."""
        return self.height, self.width

    @property
    def grid(self) -> Grid:
        return 1, self.rows, self.columns

    @property
    def form(self) -> ArrayForm:
        """Returns the form of a picture's array."""
        return ArrayForm((self.height, self.width, 3), "uint8")

    def array(self, values: np.ndarray) -> np.ndarray:
        """Returns what the model reads of a picture, its pixels.

        Raises:
          DataError: if it has another size.
        """
        if values.shape != self.form.shape or values.dtype != np.uint8:
            raise DataError(
                f"a picture is {values.dtype} of {values.shape}, and image_vectors is for uint8 of "
                f"{self.form.shape}; resize it (decode_media.height, width), or set "
                "image_vectors.height and width."
            )
        return values

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Returns the placeholders of a picture, all code 0."""
        del values
        return np.zeros(self.rows * self.columns, np.int32)

    def decode(self, codes: np.ndarray) -> NoReturn:
        """Raises DataError: vectors are read and not written."""
        raise DataError(NOT_WRITTEN.format(self.modality))

    def keep_in(self, folder: pathlib.Path) -> None:
        """Nothing is to be kept."""


@dataclasses.dataclass(frozen=True)
class SoundVectors:
    """Sounds, filled up to one length, whose log-mel frames a model's encoder reads.

    Attributes:
      frames: of a sound.
      vectors: that the model makes of one.
      mel: how frames are made.
      token: see `ImageVectors`.
      begin: likewise.
      end: likewise.
    """

    frames: PositiveInt = 3000
    vectors: PositiveInt = 1500
    mel: MelFrames = MelFrames()
    token: str = "<|audio|>"
    begin: str | None = "<|audio_begin|>"
    end: str | None = "<|audio_end|>"

    num_codes = 1
    varies = False
    digest = "mel frames"

    def __post_init__(self):
        check_domains(self, "sound_vectors")

    @property
    def modality(self) -> Modality:
        return "audio"

    @property
    def rate(self) -> int:
        """Returns the samples a second."""
        return self.mel.rate

    @property
    def grid(self) -> Grid:
        return self.vectors, 1, 1

    @property
    def form(self) -> ArrayForm:
        """Returns the form of a sound's array."""
        return ArrayForm((self.frames, self.mel.bands), "float32")

    def array(self, values: np.ndarray) -> np.ndarray:
        """Returns the frames of a sound with silence after it.

        Raises:
          DataError: if it is longer than the frames are, or no sound.
        """
        samples = self.frames * self.mel.hop
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
            raise DataError(
                f"an array of shape {values.shape} is no sound of one or more finite samples; "
                "decode it (decode_media.sounds), which averages channels."
            )
        if len(values) > samples:
            raise DataError(
                f"a sound has {len(values)} samples, and sound_vectors.frames={self.frames} are of "
                f"{samples}; cut it, or set more frames."
            )
        return self.mel.encode(np.pad(values, (0, samples - len(values))))

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Returns the placeholders of a sound, all code 0."""
        del values
        return np.zeros(self.vectors, np.int32)

    def decode(self, codes: np.ndarray) -> NoReturn:
        """Raises DataError: vectors are read and not written."""
        raise DataError(NOT_WRITTEN.format(self.modality))

    def keep_in(self, folder: pathlib.Path) -> None:
        """Nothing is to be kept."""


NOT_WRITTEN = (
    "the run reads its {} as vectors, which no model writes: a model that makes some needs a codec "
    "of codes, such as a palette."
)
