"""Short videos of a shape that moves, with captions that can be verified."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Literal, NamedTuple

import numpy as np

from jaxgen.data.generated.base import GeneratedSource, SplitRecords, stream
from jaxgen.data.generated.combinations import held_out_combinations
from jaxgen.data.generated.sprite_canvas import (
    BACKGROUND,
    COLOURS,
    LEAST_SIDE,
    MOST_ERROR,
    PAINTS,
    SHAPES,
    UNKNOWN,
    SpriteCanvas,
    article,
    glyph,
    templates,
)
from jaxgen.data.protocols import Record, Split
from jaxgen.domains import InnerFraction, PositiveInt
from jaxgen.errors import ConfigError

STEPS = {
    "left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0),
    "up left": (-1, -1), "up right": (-1, 1), "down left": (1, -1), "down right": (1, 1),
}  # fmt: skip
"""Rows and columns that a direction goes by."""
DIRECTIONS = tuple(STEPS)
SPEEDS = {"slowly": 1, "quickly": 2}
"""Pixels a frame, along each axis that the direction goes by."""
WAYS = "|".join(sorted(DIRECTIONS, key=len, reverse=True))
SENTENCE = re.compile(rf"an? (\w+) (\w+) moves ({WAYS}) (\w+)")


class Motion(NamedTuple):
    """What moves, and how."""

    colour: str
    shape: str
    direction: str
    speed: str

    @property
    def phrase(self) -> str:
        """Returns "a red circle moves up left slowly"."""
        what = f"{article(self.colour)} {self.colour} {self.shape}"
        return f"{what} moves {self.direction} {self.speed}"


@dataclasses.dataclass(frozen=True)
class MovingSprites(GeneratedSource):
    """Videos of one sprite that moves across the canvas and stays on it.

    Some combinations of attributes are held out: training videos have none of them, held-out ones
    nothing else, and each attribute by itself is trained on.

    A record has video (uint8 [frames, size, size, 3]), caption ("a red circle moves left slowly"),
    question, prompt ("Which way does it move?", a line break and "A:"), answer (" left"), colour,
    shape, direction, speed and key.

    Attributes:
      size: pixels of a side.
      side: pixels of the sprite.
      frames: of a video.
      colours: two or more of `sprite_canvas.COLOURS`.
      shapes: two or more of `sprite_canvas.SHAPES`.
      directions: two or more of DIRECTIONS.
      heldout_by: the attributes whose combinations are held out.
      heldout_fraction: share of the combinations.
      num_examples: how many instances an epoch has.
    """

    size: PositiveInt = 16
    side: PositiveInt = 5
    frames: PositiveInt = 4
    colours: tuple[str, ...] = COLOURS
    shapes: tuple[str, ...] = SHAPES
    directions: tuple[str, ...] = DIRECTIONS
    heldout_by: Literal["shape_direction", "colour_shape", "colour_shape_direction"] = (
        "shape_direction"
    )
    heldout_fraction: InnerFraction = 0.125
    num_examples: PositiveInt = 1_000_000

    def __post_init__(self):
        super().__post_init__()
        SpriteCanvas(colours=self.colours, shapes=self.shapes)
        if len(set(self.directions)) < 2 or set(self.directions) - set(DIRECTIONS):
            raise ConfigError(
                f"MovingSprites.directions={self.directions!r}: use two or more of {DIRECTIONS}."
            )
        if self.frames < 2 or self.side < LEAST_SIDE:
            raise ConfigError(
                f"MovingSprites.frames={self.frames}, side={self.side}: a motion needs 2 frames, "
                f"and a shape {LEAST_SIDE} pixels."
            )
        if self._way >= self.size - self.side:
            raise ConfigError(
                f"MovingSprites: {self.frames} frames take a sprite of {self.side} pixels "
                f"{self._way} pixels far; use a size of {self._way + self.side + 1} or more."
            )
        _ = self._combinations

    @property
    def _way(self) -> int:
        return (self.frames - 1) * max(SPEEDS.values())

    @functools.cached_property
    def _combinations(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns [n, 3] indices of colour, shape and direction, and [n] which are held out."""
        values = {"colour": self.colours, "shape": self.shapes, "direction": self.directions}
        named = self.heldout_by.split("_")
        held_out = held_out_combinations(
            [values[name] for name in named], self.heldout_fraction,
            "MovingSprites.heldout_fraction",
        )  # fmt: skip
        shape = tuple(len(some) if name in named else 1 for name, some in values.items())
        whole = tuple(map(len, values.values()))
        held_out = np.broadcast_to(held_out.reshape(shape), whole)
        return np.stack(list(np.ndindex(*whole))), held_out.ravel()

    @property
    def chance(self) -> float:
        """Returns the rate of the commonest direction of held-out videos."""
        combinations, held_out = self._combinations
        return float(np.bincount(combinations[held_out, 2]).max() / held_out.sum())

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: the combination, the speed and the place."""
        return 3

    def records_by_index(self, split: Split) -> SplitRecords:
        """Opens the records of a split; see `IndexedSource`."""
        return SplitRecords(self, split)

    def is_heldout(self, motion: Motion) -> bool:
        """Returns whether a motion is a combination that is never trained on."""
        combinations, held_out = self._combinations
        place = (
            self.colours.index(motion.colour), self.shapes.index(motion.shape),
            self.directions.index(motion.direction),
        )  # fmt: skip
        return bool(held_out[(combinations == place).all(1)][0])

    def record_of(self, draws: np.ndarray, split: Split) -> Record:
        """Returns a video with its caption."""
        combinations, held_out = self._combinations
        options = np.flatnonzero(held_out == (split == "heldout"))
        colour, shape, direction = combinations[options[int(draws[0]) % len(options)]]
        speed = tuple(SPEEDS)[int(draws[1]) % len(SPEEDS)]
        motion = Motion(self.colours[colour], self.shapes[shape], self.directions[direction], speed)
        places = self._places(motion, draws[2])
        question = "Which way does it move?"
        return {
            "video": self._draw(motion, places), "caption": motion.phrase, "question": question,
            "prompt": f"{question}\nA:", "answer": f" {motion.direction}", **motion._asdict(),
            "key": f"{motion.phrase} from {places[0].tolist()}",
        }  # fmt: skip

    def read_motion(self, video: np.ndarray) -> Motion:
        """Returns what moves on a video, and how; what is not sure of it is unknown.

        Args:
          video: [frames, size, size, 3], 0 to 255, of any dtype; noisy or quantised as it may be.
        """
        video = np.asarray(video, np.float32)
        if video.shape != (self.frames, self.size, self.size, 3):
            raise ValueError(f"a video of shape {video.shape}, not of this source")
        known = templates(self.colours, self.shapes, self.side)
        kinds = known.reshape(-1, self.side**2 * 3)
        windows = np.lib.stride_tricks.sliding_window_view(
            video - np.asarray(BACKGROUND, np.float32), (self.side, self.side), axis=(1, 2)
        )
        rows, columns = windows.shape[1:3]
        flat = windows.transpose(0, 1, 2, 4, 5, 3).reshape(self.frames, rows * columns, -1)
        relative = kinds - np.tile(np.asarray(BACKGROUND, np.float32), self.side**2)
        # Squared error of the whole frame, but for what does not depend on the sprite.
        errors = np.square(relative).sum(1) - 2 * flat @ relative.T
        errors = np.where(np.isfinite(errors), errors, np.inf)
        kind = int(errors.min(1).sum(0).argmin())
        places = np.stack(np.divmod(errors[:, :, kind].argmin(1), columns), axis=1)
        colour, shape = divmod(kind, len(self.shapes))
        direction, speed = self._way_of(np.diff(places, axis=0))
        motion = Motion(self.colours[colour], self.shapes[shape], direction, speed)
        drawn = self._draw(motion, places).astype(np.float32)
        if not np.square(video - drawn).mean() <= MOST_ERROR**2:
            return Motion(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
        # A frame without the sprite may be near a drawn one, as most of both is background.
        covered = np.square(video - drawn)[(drawn != BACKGROUND).any(-1)].mean()
        if covered > 2 * MOST_ERROR**2:
            return motion._replace(colour=UNKNOWN, shape=UNKNOWN)
        return motion

    def score_video(self, record: Record, video: np.ndarray) -> dict[str, int]:
        """Returns 1 or 0 for each attribute of a record, and for all together as "all"."""
        return _scores(record, self.read_motion(video))

    def score_text(self, record: Record, text: str) -> dict[str, int]:
        """Returns the same for a caption that a model wrote of the video."""
        match = SENTENCE.fullmatch(text.strip())
        return _scores(record, Motion(*match.groups()) if match else Motion(*[UNKNOWN] * 4))

    def _places(self, motion: Motion, draw: np.uint64) -> np.ndarray:
        """Returns [frames, 2] rows and columns of the sprite's upper left corner."""
        step = np.array(STEPS[motion.direction]) * SPEEDS[motion.speed]
        way = step * (self.frames - 1)
        room = self.size - self.side - np.abs(way) + 1
        start = np.maximum(-way, 0) + (stream(draw, 2) % room.astype(np.uint64)).astype(int)
        return start + step * np.arange(self.frames)[:, None]

    def _draw(self, motion: Motion, places: np.ndarray) -> np.ndarray:
        video = np.empty((self.frames, self.size, self.size, 3), np.uint8)
        video[:] = BACKGROUND
        covered = glyph(motion.shape, self.side)
        for frame, (row, column) in zip(video, places, strict=True):
            frame[row : row + self.side, column : column + self.side][covered] = PAINTS[
                motion.colour
            ]
        return video

    def _way_of(self, steps: np.ndarray) -> tuple[str, str]:
        """Returns the direction and the speed of [frames - 1, 2] steps, which must be equal."""
        if (steps != steps[0]).any():
            return UNKNOWN, UNKNOWN
        pixels = int(np.abs(steps[0]).max())
        signs = tuple(int(sign) for sign in np.sign(steps[0]))
        direction = next((name for name, step in STEPS.items() if step == signs), UNKNOWN)
        speed = next((name for name, number in SPEEDS.items() if number == pixels), UNKNOWN)
        is_straight = {abs(int(step)) for step in steps[0]} <= {0, pixels}
        return (direction, speed) if is_straight else (UNKNOWN, UNKNOWN)


def _scores(record: Record, found: Motion) -> dict[str, int]:
    scores = {name: int(record[name] == getattr(found, name)) for name in Motion._fields}
    return scores | {"all": min(scores.values())}
