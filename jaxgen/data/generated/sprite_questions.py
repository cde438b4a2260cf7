"""Questions about pictures of sprites, whose answers are exact and balanced."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from jaxgen.data.draws import Draws
from jaxgen.data.generated.base import GeneratedSource, choose
from jaxgen.data.generated.sprite_canvas import COLOURS, SHAPES, Sprite, SpriteCanvas
from jaxgen.data.generated.sprites import plural
from jaxgen.data.hashing import hash64
from jaxgen.data.protocols import Record
from jaxgen.domains import InnerFraction, NonNegativeInt, PositiveInt
from jaxgen.errors import ConfigError

Kind = Literal["count", "colour", "compare", "relation"]
KINDS: tuple[Kind, ...] = ("count", "colour", "compare", "relation")
RELATIONS = ("left of", "right of", "above", "below")


class Asked(NamedTuple):
    """A question, its answer and the picture that it is about."""

    question: str
    answer: str
    sprites: list[Sprite]


@dataclasses.dataclass(frozen=True)
class SpriteQuestions(GeneratedSource):
    """A picture of sprites and a question about it, of one of four kinds.

    count: "How many circles are there?" or "How many red shapes are there?", 0 to `most`. colour:
    "What colour is the circle?". compare: "Are there more circles than squares?". relation: "Is
    the circle left of the square?". The answer is drawn first, then a picture of it, so that every
    answer to a question is equally likely; sprites that the question is not about distract.

    A record has image (uint8 [size, size, 3]), question, prompt (the question, a line break and
    "A:"), answer (" 2"), kind, sprites (a list of `Sprite`) and key. The key is the question with
    the picture.

    Attributes:
      size: pixels of a side.
      grid: cells of a side, 2 or 3.
      colours: two or more of `sprite_canvas.COLOURS`.
      shapes: three or more of `sprite_canvas.SHAPES`.
      kinds: of questions, equally likely.
      most: the largest answer to a question of the kind "count".
      heldout_fraction: share of the pictures with their questions that is held out.
      num_examples: how many instances an epoch has.
    """

    size: PositiveInt = 16
    grid: PositiveInt = 2
    colours: tuple[str, ...] = COLOURS
    shapes: tuple[str, ...] = SHAPES
    kinds: tuple[Kind, ...] = KINDS
    most: NonNegativeInt = 3
    heldout_fraction: InnerFraction = 0.05
    num_examples: PositiveInt = 1_000_000

    def __post_init__(self):
        super().__post_init__()
        if not self.kinds or set(self.kinds) - set(KINDS):
            raise ConfigError(f"SpriteQuestions.kinds={self.kinds!r}: use one or more of {KINDS}.")
        if not 1 <= self.most <= len(self.canvas.positions):
            raise ConfigError(
                f"SpriteQuestions.most={self.most}: a grid of {self.grid} x {self.grid} has room "
                f"for 1 to {len(self.canvas.positions)}."
            )
        if len(self.shapes) < 3:
            raise ConfigError(
                f"SpriteQuestions.shapes={self.shapes!r}: use three or more, as some distract."
            )

    @functools.cached_property
    def canvas(self) -> SpriteCanvas:
        """Returns the canvas, which draws sprites and reads them back."""
        return SpriteCanvas(self.size, self.grid, self.colours, self.shapes)

    @property
    def chances(self) -> dict[str, float]:
        """Returns the accuracy, for each kind, of the best answer without the picture."""
        return {
            "count": 1 / (self.most + 1),
            "colour": 1 / len(self.colours),
            "compare": 0.5,
            "relation": 0.5,
        }

    @property
    def chance(self) -> float:
        """Returns the accuracy of the best answers that depend on the question alone."""
        return sum(self.chances[kind] for kind in self.kinds) / len(self.kinds)

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: the kind, and a seed of the rest."""
        return 2

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """Returns hashes of the keys, without drawing the pictures."""
        return np.array([hash64(_key(self._asked(row)[1])) for row in draws], np.uint64)

    def record(self, draws: np.ndarray) -> Record:
        """Returns a picture with a question and its answer."""
        kind, asked = self._asked(draws)
        return {
            "image": self.canvas.draw(asked.sprites), "question": asked.question,
            "prompt": f"{asked.question}\nA:", "answer": f" {asked.answer}", "kind": kind,
            "sprites": asked.sprites, "key": _key(asked),
        }  # fmt: skip

    def _asked(self, draws: np.ndarray) -> tuple[Kind, Asked]:
        kind = choose(draws[0], self.kinds)
        makers: dict[Kind, Callable[[Draws], Asked]] = {
            "count": self._count, "colour": self._colour, "compare": self._compare,
            "relation": self._relation,
        }  # fmt: skip
        return kind, makers[kind](Draws(int(draws[1])))

    def _count(self, draws: Draws) -> Asked:
        number, by_colour = int(draws.integers(1, self.most + 1)[0]), draws.uniform(1)[0] < 0.5
        if by_colour:
            asked, *others = _shuffled(draws, self.colours)
            kinds = [(asked, shape) for shape in _drawn(draws, self.shapes, number)]
            question = f"How many {asked} shapes are there?"
            more = self._others(draws, number, others, self.shapes)
        else:
            asked, *others = _shuffled(draws, self.shapes)
            kinds = [(colour, asked) for colour in _drawn(draws, self.colours, number)]
            question = f"How many {plural(asked)} are there?"
            more = self._others(draws, number, self.colours, others)
        return Asked(question, str(number), self._placed(draws, kinds + more))

    def _colour(self, draws: Draws) -> Asked:
        (colour,) = _drawn(draws, self.colours, 1)
        shape, *others = _shuffled(draws, self.shapes)
        more = self._others(draws, 1, self.colours, others)
        sprites = self._placed(draws, [(colour, shape), *more])
        return Asked(f"What colour is the {shape}?", colour, sprites)

    def _compare(self, draws: Draws) -> Asked:
        answer = draws.uniform(1)[0] < 0.5
        cells = range(len(self.canvas.positions) + 1)
        pairs = [
            (a, b) for a in cells for b in cells if 0 < a + b <= max(cells) and (a > b) == answer
        ]
        counts = pairs[int(draws.integers(1, len(pairs))[0])]
        one, other, *others = _shuffled(draws, self.shapes)
        kinds = [
            (colour, shape)
            for shape, count in zip((one, other), counts, strict=True)
            for colour in _drawn(draws, self.colours, count)
        ]
        kinds += self._others(draws, len(kinds), self.colours, others)
        question = f"Are there more {plural(one)} than {plural(other)}?"
        return Asked(question, "yes" if answer else "no", self._placed(draws, kinds))

    def _relation(self, draws: Draws) -> Asked:
        answer = draws.uniform(1)[0] < 0.5
        (relation,) = _drawn(draws, RELATIONS, 1)
        cells = self.canvas.positions
        pairs = [
            (a, b)
            for a in cells
            for b in cells
            if a != b and (relation in self.canvas.relation(a, b)) == answer
        ]
        places = pairs[int(draws.integers(1, len(pairs))[0])]
        one, other, *others = _shuffled(draws, self.shapes)
        colours = _drawn(draws, self.colours, 2)
        sprites = [Sprite(*s) for s in zip(colours, (one, other), places, strict=True)]
        more = self._others(draws, 2, self.colours, others)
        sprites += self._placed(draws, more, taken=places)
        question = f"Is the {one} {relation} the {other}?"
        return Asked(question, "yes" if answer else "no", sorted(sprites, key=self._order))

    def _others(
        self, draws: Draws, taken: int, colours: tuple[str, ...] | list[str],
        shapes: tuple[str, ...] | list[str],
    ) -> list[tuple[str, str]]:  # fmt: skip
        """Draws sprites that the question is not about; a picture has at least one sprite."""
        least, room = int(not taken), len(self.canvas.positions) - taken
        count = least + int(draws.integers(1, room - least + 1)[0])
        return list(zip(_drawn(draws, colours, count), _drawn(draws, shapes, count), strict=True))

    def _placed(
        self, draws: Draws, kinds: list[tuple[str, str]], taken: tuple[str, ...] = ()
    ) -> list[Sprite]:
        free = [position for position in self.canvas.positions if position not in taken]
        places = draws.permutation(len(free))[: len(kinds)]
        sprites = [Sprite(*kind, free[place]) for kind, place in zip(kinds, places, strict=True)]
        return sorted(sprites, key=self._order)

    def _order(self, sprite: Sprite) -> int:
        return self.canvas.positions.index(sprite.position)


def _key(asked: Asked) -> str:
    return f"{asked.question} {', '.join(sprite.phrase for sprite in asked.sprites)}"


def _shuffled(draws: Draws, values: tuple[str, ...]) -> list[str]:
    return [values[place] for place in draws.permutation(len(values))]


def _drawn(draws: Draws, values: tuple[str, ...] | list[str], count: int) -> list[str]:
    return [values[place] for place in draws.integers(count, len(values))]
