"""Small pictures of plain shapes, drawn and read back exactly, by numpy alone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError

PAINTS = {
    "red": (230, 30, 30),
    "green": (30, 170, 50),
    "blue": (40, 70, 240),
    "yellow": (250, 225, 30),
    "purple": (150, 40, 190),
    "orange": (255, 130, 20),
    "cyan": (40, 210, 220),
    "white": (245, 245, 245),
}
BACKGROUND = (0, 0, 0)
COLOURS = tuple(PAINTS)
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
POSITIONS = {
    2: ("top left", "top right", "bottom left", "bottom right"),
    3: ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom",
        "bottom right"),
}  # fmt: skip
"""The names of a grid's cells, row by row."""
UNKNOWN = "unknown"
LEAST_SIDE = 5
"""Pixels of a shape, below which a circle and a diamond are one."""
MOST_ERROR = 60.0
"""Root mean square of what a cell differs from the nearest sprite; beyond it is no sprite."""


class Sprite(NamedTuple):
    """A shape on a canvas."""

    colour: str
    shape: str
    position: str

    @property
    def phrase(self) -> str:
        """Returns "a red circle at the top left"."""
        return f"{article(self.colour)} {self.colour} {self.shape} at the {self.position}"


def article(word: str) -> str:
    """Returns "a" or "an"."""
    return "an" if word[0] in "aeio" else "a"


@functools.cache
def glyph(shape: str, side: int) -> np.ndarray:
    """Returns the pixels that a shape covers: [side, side] bool."""
    steps = (np.arange(side) - (side - 1) / 2) / (side / 2)
    x, y = np.abs(steps)[None, :], steps[:, None]
    radius = x**2 + y**2
    return {
        "circle": radius <= 1,
        "square": np.ones((side, side), bool),
        "triangle": x <= (y + 1.05) / 2,
        "diamond": x + np.abs(y) <= 1.01,
        "cross": np.minimum(x, np.abs(y)) <= 0.3,
        "ring": (radius <= 1) & (radius >= 0.3),
    }[shape]


@functools.cache
def templates(colours: tuple[str, ...], shapes: tuple[str, ...], side: int) -> np.ndarray:
    """Returns the picture of every sprite: [colours, shapes, side, side, 3] float32."""
    paints = np.array([PAINTS[colour] for colour in colours], np.float32)
    covered = np.stack([glyph(shape, side) for shape in shapes])[None, ..., None]
    return np.where(covered, paints[:, None, None, None], np.asarray(BACKGROUND, np.float32))


@dataclasses.dataclass(frozen=True)
class SpriteCanvas:
    """A square canvas with a grid of cells, each of which holds a sprite or nothing.

    Attributes:
      size: pixels of a side.
      grid: cells of a side, 2 or 3.
      colours: names of PAINTS.
      shapes: names of SHAPES.
    """

    size: PositiveInt = 16
    grid: PositiveInt = 2
    colours: tuple[str, ...] = COLOURS
    shapes: tuple[str, ...] = SHAPES

    def __post_init__(self):
        check_domains(self, "sprites")
        if self.grid not in POSITIONS:
            raise ConfigError(f"sprites.grid={self.grid}: use one of {sorted(POSITIONS)}.")
        if self.side < LEAST_SIDE:
            raise ConfigError(
                f"sprites.size={self.size} leaves {self.side} pixels for a shape, and they are "
                f"told apart from {LEAST_SIDE} on; use a size of {self.grid * (LEAST_SIDE + 1)}."
            )
        for name, values, known in (
            ("colours", self.colours, COLOURS),
            ("shapes", self.shapes, SHAPES),
        ):
            if len(values) < 2 or len(set(values)) < len(values) or set(values) - set(known):
                raise ConfigError(f"sprites.{name}={values!r}: use two or more of {known}.")

    @property
    def pitch(self) -> int:
        """Returns the pixels from a cell to the next."""
        return self.size // self.grid

    @property
    def side(self) -> int:
        """Returns the pixels of a shape; one between cells stays empty."""
        return self.pitch - 1

    @property
    def positions(self) -> tuple[str, ...]:
        """Returns the names of the cells, row by row."""
        return POSITIONS[self.grid]

    def place(self, position: str) -> tuple[int, int]:
        """Returns the row and column of a cell."""
        return divmod(self.positions.index(position), self.grid)

    def draw(self, sprites: Iterable[Sprite]) -> np.ndarray:
        """Returns the picture: [size, size, 3] uint8."""
        image = np.empty((self.size, self.size, 3), np.uint8)
        image[:] = BACKGROUND
        for sprite in sprites:
            self._cell(image, sprite.position)[glyph(sprite.shape, self.side)] = PAINTS[
                sprite.colour
            ]
        return image

    def read(self, image: np.ndarray) -> list[Sprite]:
        """Returns the sprites of a picture, row by row, as this canvas draws them.

        A cell is the sprite, or the background, that it differs from least, which is the likeliest
        one under noise; where it resembles none it holds a sprite of unknown colour and shape.

        Args:
          image: [size, size, 3], 0 to 255, of any dtype; noisy or quantised as it may be.
        """
        image = np.asarray(image, np.float32)
        if image.shape != (self.size, self.size, 3):
            raise ValueError(f"a picture of shape {image.shape}, not {(self.size, self.size, 3)}")
        known = templates(self.colours, self.shapes, self.side)
        kinds = known.reshape(-1, known[0, 0].size)
        empty = np.broadcast_to(np.asarray(BACKGROUND, np.float32), known.shape[2:]).reshape(1, -1)
        kinds = np.concatenate([kinds, empty])
        cells = np.stack([self._cell(image, position).ravel() for position in self.positions])
        errors = np.square(cells[:, None] - kinds).mean(-1)
        # A picture whose numbers are not finite has no nearest sprite.
        errors = np.where(np.isfinite(errors), errors, np.inf)
        best = errors.argmin(1)
        found = []
        for position, kind, error in zip(self.positions, best, errors.min(1), strict=True):
            if error > MOST_ERROR**2:
                found.append(Sprite(UNKNOWN, UNKNOWN, position))
            elif kind < len(kinds) - 1:
                colour, shape = divmod(int(kind), len(self.shapes))
                found.append(Sprite(self.colours[colour], self.shapes[shape], position))
        return found

    def relation(self, first: str, second: str) -> tuple[str, ...]:
        """Returns what is true of a cell and another: "left of", "right of", "above", "below"."""
        (row, column), (other_row, other_column) = self.place(first), self.place(second)
        sideways = {-1: ("left of",), 0: (), 1: ("right of",)}
        upright = {-1: ("above",), 0: (), 1: ("below",)}
        return (
            *sideways[int(np.sign(column - other_column))],
            *upright[int(np.sign(row - other_row))],
        )

    def _cell(self, image: np.ndarray, position: str) -> np.ndarray:
        row, column = self.place(position)
        # What is left over beside the cells goes to both edges.
        edge = (self.size - self.grid * self.pitch + 1) // 2
        top, left = edge + row * self.pitch, edge + column * self.pitch
        return image[top : top + self.side, left : left + self.side]
