"""Codecs of pictures, clips and sounds by a palette; see `codecs.palette`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from jaxgen.codecs.media import Grid, Modality, check_sound
from jaxgen.codecs.mel import MelFrames
from jaxgen.codecs.palette import Palette, made_for, unit_values
from jaxgen.codecs.patches import clip_of, patches_of
from jaxgen.domains import PositiveFloat, PositiveInt
from jaxgen.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class ImagePalette(Palette):
    """Pictures of one size as patches of a palette.

    Attributes:
      path: of the palette.
      digest: its sha256, checked when it is read; None takes the file's own.
      height: of a picture, in pixels.
      width: of a picture.
      patch_height: rows of a patch.
      patch_width: columns of a patch; with 1 of each it is a palette of colours.
    """

    path: str = dataclasses.field(compare=False)
    digest: str = None  # pyright: ignore[reportAssignmentType]
    height: PositiveInt = 16
    width: PositiveInt = 16
    patch_height: PositiveInt = 4
    patch_width: PositiveInt = 4

    KEPT_FILES: ClassVar = {"path": "image_palette.safetensors"}

    def __post_init__(self):
        self._check("image_palette")
        _check_patch("image_palette", (1, *self.size), self._patch)

    @property
    def modality(self) -> Modality:
        return "image"

    @property
    def size(self) -> tuple[int, int]:
        """Returns the height and width of a picture."""
        return self.height, self.width

    @property
    def made_for(self) -> str:
        return made_for(self.modality, self._patch)

    @property
    def _patch(self) -> tuple[int, int, int]:
        return 1, self.patch_height, self.patch_width

    @property
    def vector_size(self) -> int:
        return 3 * self.patch_height * self.patch_width

    @property
    def grid(self) -> Grid:
        return 1, self.height // self.patch_height, self.width // self.patch_width

    def vectors_of(self, values: np.ndarray) -> np.ndarray:
        """Returns the patches [patches, vector_size] of a picture uint8 [height, width, 3]."""
        _check_shape("picture", values, (self.height, self.width, 3))
        return patches_of(unit_values(values)[None], self._patch)

    def values_of(self, vectors: np.ndarray) -> np.ndarray:
        return _bytes(clip_of(vectors, self.grid, self._patch))[0]


@dataclasses.dataclass(frozen=True)
class VideoPalette(Palette):
    """Clips of one size as tubelets of a palette.

    Attributes:
      path: of the palette.
      digest: its sha256, checked when it is read; None takes the file's own.
      frames: of a clip.
      height: of a frame, in pixels.
      width: of a frame.
      patch_frames: frames of a tubelet.
      patch_height: rows of one.
      patch_width: columns of one.
    """

    path: str = dataclasses.field(compare=False)
    digest: str = None  # pyright: ignore[reportAssignmentType]
    frames: PositiveInt = 8
    height: PositiveInt = 16
    width: PositiveInt = 16
    patch_frames: PositiveInt = 1
    patch_height: PositiveInt = 4
    patch_width: PositiveInt = 4

    KEPT_FILES: ClassVar = {"path": "video_palette.safetensors"}

    def __post_init__(self):
        self._check("video_palette")
        _check_patch("video_palette", (self.frames, self.height, self.width), self._patch)

    @property
    def modality(self) -> Modality:
        return "video"

    @property
    def made_for(self) -> str:
        return made_for(self.modality, self._patch)

    @property
    def _patch(self) -> tuple[int, int, int]:
        return self.patch_frames, self.patch_height, self.patch_width

    @property
    def vector_size(self) -> int:
        return 3 * self.patch_frames * self.patch_height * self.patch_width

    @property
    def grid(self) -> Grid:
        frames, rows, columns = self._patch
        return self.frames // frames, self.height // rows, self.width // columns

    def vectors_of(self, values: np.ndarray) -> np.ndarray:
        """Returns [tubelets, vector_size] of a clip uint8 [frames, height, width, 3]."""
        _check_shape("clip", values, (self.frames, self.height, self.width, 3))
        return patches_of(unit_values(values), self._patch)

    def values_of(self, vectors: np.ndarray) -> np.ndarray:
        return _bytes(clip_of(vectors, self.grid, self._patch))


@dataclasses.dataclass(frozen=True)
class SoundPalette(Palette):
    """Sounds as log-mel frames of a palette; back by way of their magnitudes.

    Attributes:
      path: of the palette.
      digest: its sha256, checked when it is read; None takes the file's own.
      mel: the frames.
      seconds: of the longest sound.
    """

    path: str = dataclasses.field(compare=False)
    digest: str = None  # pyright: ignore[reportAssignmentType]
    mel: MelFrames = MelFrames()
    seconds: PositiveFloat = 2.0

    KEPT_FILES: ClassVar = {"path": "sound_palette.safetensors"}

    def __post_init__(self):
        self._check("sound_palette")
        if self.seconds * self.mel.rate < 1:
            raise ConfigError(f"sound_palette.seconds={self.seconds} has no sample.")

    @property
    def varies(self) -> bool:
        return True

    @property
    def modality(self) -> Modality:
        return "audio"

    @property
    def made_for(self) -> str:
        return made_for(self.modality, mel=self.mel)

    @property
    def rate(self) -> int:
        """Returns the samples a second."""
        return self.mel.rate

    @property
    def vector_size(self) -> int:
        return self.mel.bands

    @property
    def grid(self) -> Grid:
        return -(-round(self.seconds * self.mel.rate) // self.mel.hop), 1, 1

    def vectors_of(self, values: np.ndarray) -> np.ndarray:
        """Returns the frames [frames, bands] of a sound float32 [samples]."""
        check_sound(values, "sound_palette", self.seconds, self.mel.rate)
        return self.mel.encode(values)

    def values_of(self, vectors: np.ndarray) -> np.ndarray:
        power = 10 ** (4 * vectors.astype(np.float64) - 4)
        spread = np.linalg.pinv(self.mel.filters())
        return self.mel.samples_of(np.sqrt(np.maximum(power @ spread.T, 0)))


def _check_patch(name: str, lengths: tuple[int, ...], patch: tuple[int, ...]) -> None:
    if any(length % part for length, part in zip(lengths, patch, strict=True)):
        raise ConfigError(
            f"{name}: patches of {'x'.join(map(str, patch))} (frames, rows, columns) do not divide "
            f"{'x'.join(map(str, lengths))}; choose a patch that does."
        )


def _check_shape(what: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    if values.shape != shape or values.dtype != np.uint8:
        raise DataError(
            f"a {what} is {values.dtype} of {'x'.join(map(str, values.shape))}, and its codec is "
            f"for uint8 of {'x'.join(map(str, shape))}: resize it (decode_media.height, width), or "
            "set those of the codec."
        )


def _bytes(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
