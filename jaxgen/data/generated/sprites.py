"""Pictures of shapes with captions whose every attribute can be verified."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

import numpy as np

from jaxgen.data.generated.base import GeneratedSource, SplitRecords, choose, stream
from jaxgen.data.generated.combinations import held_out_combinations
from jaxgen.data.generated.sprite_canvas import COLOURS, SHAPES, Sprite, SpriteCanvas, article
from jaxgen.data.generated.sprite_scores import score_found, score_named, sprites_in
from jaxgen.data.hashing import mix64
from jaxgen.data.protocols import Record, Split
from jaxgen.domains import InnerFraction, PositiveInt
from jaxgen.errors import ConfigError

Tag = Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]
TAGS: tuple[Tag, ...] = (
    "single_object", "two_object", "counting", "colors", "position", "color_attr",
)  # fmt: skip
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ATTEMPTS = 100


@dataclasses.dataclass(frozen=True)
class Sprites(GeneratedSource):
    """Pictures of one sprite or several, with captions by the six tags of GenEval (2310.11513).

    A tag is what a caption names, and so what a picture that is made from it must have:
    "a circle" (single_object), "a circle and a square" (two_object), "three circles" (counting),
    "a red circle" (colors), "a circle left of a square" (position), "a red circle and a blue
    square" (color_attr). The description names all of a picture: "a red circle at the top left and
    a blue square at the bottom right".

    Some combinations of attributes are held out: training pictures have none of them, and each
    held-out picture has at least one. Each attribute by itself is trained on.

    A record has image (uint8 [size, size, 3]), caption, description, tag, sprites (a list of
    `Sprite`), count, colour, shape and position (of the sprite that the caption names first),
    relation ("" but for the tag position) and key.

    Attributes:
      size: pixels of a side.
      grid: cells of a side, 2 or 3, whose names are the positions.
      colours: two or more of `sprite_canvas.COLOURS`.
      shapes: two or more of `sprite_canvas.SHAPES`.
      tags: kinds of captions, equally likely.
      most: sprites of a counting picture, at most; at least there are two.
      heldout_by: the attributes whose combinations are held out.
      heldout_fraction: share of the combinations.
      num_examples: how many instances an epoch has.
    """

    size: PositiveInt = 16
    grid: PositiveInt = 2
    colours: tuple[str, ...] = COLOURS
    shapes: tuple[str, ...] = SHAPES
    tags: tuple[Tag, ...] = TAGS
    most: PositiveInt = 4
    heldout_by: Literal["colour_shape", "colour_shape_position"] = "colour_shape"
    heldout_fraction: InnerFraction = 0.125
    num_examples: PositiveInt = 1_000_000

    def __post_init__(self):
        super().__post_init__()
        if not self.tags or set(self.tags) - set(TAGS):
            raise ConfigError(f"Sprites.tags={self.tags!r}: use one or more of {TAGS}.")
        if not 2 <= self.most <= len(self.canvas.positions):
            raise ConfigError(
                f"Sprites.most={self.most}: a grid of {self.grid} x {self.grid} has room for 2 to "
                f"{len(self.canvas.positions)} sprites."
            )
        _ = self._combinations

    @functools.cached_property
    def canvas(self) -> SpriteCanvas:
        """Returns the canvas, which draws sprites and reads them back."""
        return SpriteCanvas(self.size, self.grid, self.colours, self.shapes)

    @functools.cached_property
    def _combinations(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns [n, 3] indices of colour, shape and position, and [n] which are held out."""
        attributes = [self.colours, self.shapes, self.canvas.positions]
        named = attributes if self.heldout_by == "colour_shape_position" else attributes[:2]
        held_out = held_out_combinations(named, self.heldout_fraction, "Sprites.heldout_fraction")
        if held_out.ndim == 2:
            held_out = np.repeat(held_out[..., None], len(attributes[2]), axis=2)
        return np.stack(list(np.ndindex(*held_out.shape))), held_out.ravel()

    def is_heldout(self, sprite: Sprite) -> bool:
        """Returns whether a sprite is a combination that is never trained on."""
        combinations, held_out = self._combinations
        return any(self._sprite(place) == sprite for place in combinations[held_out])

    @property
    def chance(self) -> float:
        """Returns the rate of the commonest description of held-out pictures."""
        total = int(self._combinations[1].sum())
        cells, shapes = len(self.canvas.positions), len(self.shapes)
        rate = {tag: self.tags.count(tag) / len(self.tags) for tag in TAGS}
        alone = rate["single_object"] + rate["colors"]
        # Any of n equal sprites may have been the first, which is held out.
        several = max(n / math.comb(cells - 1, n - 1) for n in range(2, self.most + 1))
        others = (shapes - 1) * (cells - 1)
        pairs = (rate["two_object"] + rate["position"]) / (len(self.colours) * others)
        pairs += rate["color_attr"] / ((len(self.colours) - 1) * others)
        return max(alone, rate["counting"] / (self.most - 1) * several, 2 * pairs) / total

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: the tag, the number and the sprites."""
        return 3

    def records_by_index(self, split: Split) -> SplitRecords:
        """Opens the records of a split; see `IndexedSource`."""
        return SplitRecords(self, split)

    def record_of(self, draws: np.ndarray, split: Split) -> Record:
        """Returns a picture with its captions."""
        tag = choose(draws[0], self.tags)
        number = 1 if tag in ("single_object", "colors") else 2
        if tag == "counting":
            number = 2 + int(draws[1]) % (self.most - 1)
        for attempt in range(ATTEMPTS):
            start = mix64(draws[2:] + np.uint64(attempt))[0]
            sprites = self._scene(stream(start, number + 1), tag, split)
            if sprites is not None:
                break
        else:
            raise ConfigError(
                f"{self} has hardly any picture of the tag {tag!r} in its {split} split; use more "
                "colours and shapes, or a smaller heldout_fraction."
            )
        return self._written(sprites, tag, draws[1])

    def score_image(
        self, record: Record, image: np.ndarray, text: Literal["caption", "description"] = "caption"
    ) -> dict[str, int]:
        """Returns 1 or 0 for each attribute that a text names, and for all together as "all".

        Args:
          record: the record.
          image: [size, size, 3], 0 to 255, that was made from its text.
          text: which of its texts.
        """
        found = self.canvas.read(image)
        if text == "description":
            return score_found(record["sprites"], found)
        return score_named(record, found, self.canvas)

    def score_text(self, record: Record, text: str) -> dict[str, int]:
        """Returns, for a description that a model wrote of a picture, the same as `score_image`."""
        found, is_whole = sprites_in(text)
        scores = score_found(record["sprites"], found)
        return scores | {"all": int(scores["all"] and is_whole)}

    def _scene(self, draws: np.ndarray, tag: Tag, split: Split) -> list[Sprite] | None:
        """Returns the sprites in the order that the caption names them; None if they are stuck."""
        combinations, held_out = self._combinations
        colours, shapes, positions = combinations.T
        allowed = held_out if split == "heldout" else ~held_out
        picked: list[int] = []
        for draw in draws[:-1]:
            options = np.flatnonzero(allowed)
            if not len(options):
                return None
            place = int(options[int(draw) % len(options)])
            if not picked:
                allowed = np.ones_like(held_out) if split == "heldout" else ~held_out
                if tag == "counting":
                    allowed &= (colours == colours[place]) & (shapes == shapes[place])
                else:
                    allowed &= shapes != shapes[place]
                if tag == "color_attr":
                    allowed &= colours != colours[place]
            picked.append(place)
            allowed = allowed & (positions != positions[place])
        if draws[-1] >> np.uint64(63):
            picked.reverse()
        return [self._sprite(combinations[place]) for place in picked]

    def _sprite(self, place: np.ndarray) -> Sprite:
        colour, shape, position = place
        return Sprite(self.colours[colour], self.shapes[shape], self.canvas.positions[position])

    def _written(self, sprites: list[Sprite], tag: Tag, draw: np.uint64) -> Record:
        first, last = sprites[0], sprites[-1]
        relation = ""
        if tag == "position":
            relation = choose(draw, self.canvas.relation(first.position, last.position))
        captions = {
            "single_object": f"a {first.shape}",
            "two_object": f"a {first.shape} and a {last.shape}",
            "counting": f"{NUMBERS[len(sprites)]} {plural(first.shape)}",
            "colors": f"{article(first.colour)} {first.colour} {first.shape}",
            "position": f"a {first.shape} {relation} a {last.shape}",
            "color_attr": " and ".join(
                f"{article(s.colour)} {s.colour} {s.shape}" for s in sprites
            ),
        }
        ordered = sorted(sprites, key=lambda s: self.canvas.positions.index(s.position))
        description = listed([sprite.phrase for sprite in ordered])
        return {
            "image": self.canvas.draw(sprites), "caption": captions[tag],
            "description": description, "tag": tag, "sprites": ordered, "count": len(sprites),
            "colour": first.colour, "shape": first.shape, "position": first.position,
            "relation": relation, "key": f"{captions[tag]}: {description}",
        }  # fmt: skip


def listed(phrases: list[str]) -> str:
    """Returns "a, b and c"."""
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]] if phrases[1:] else phrases)


def plural(shape: str) -> str:
    """Returns the plural of a shape."""
    return shape + ("es" if shape.endswith("s") else "s")
