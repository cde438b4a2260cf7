"""What of a text is on a picture, attribute by attribute."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from jaxgen.data.generated.sprite_canvas import POSITIONS, Sprite, SpriteCanvas
from jaxgen.data.protocols import Record

NAMED = {
    "single_object": ("count", "shape"),
    "two_object": ("count", "shape"),
    "counting": ("count", "shape"),
    "colors": ("count", "shape", "colour"),
    "position": ("count", "shape", "relation"),
    "color_attr": ("count", "shape", "colour", "binding"),
}
"""The attributes that a caption of each tag names."""
CELLS = "|".join(sorted({name for names in POSITIONS.values() for name in names}, key=len)[::-1])
PHRASE = re.compile(rf"\ban? (\w+) (\w+) at the ({CELLS})\b")


def score_found(sprites: Sequence[Sprite], found: Sequence[Sprite]) -> dict[str, int]:
    """Returns 1 or 0 for each attribute of the sprites that were found.

    "count", "colour", "shape" and "position" are each compared by themselves, whichever sprite has
    them; "binding" is whether each sprite has its own, and so "all".
    """
    scores = {"count": int(len(sprites) == len(found))}
    for name in Sprite._fields:
        values, others = (Counter(getattr(one, name) for one in some) for some in (sprites, found))
        scores[name] = int(values == others)
    scores["binding"] = int(Counter(sprites) == Counter(found))
    return scores | {"all": scores["binding"]}


def score_named(record: Record, found: Sequence[Sprite], canvas: SpriteCanvas) -> dict[str, int]:
    """Returns 1 or 0 for each attribute that a record's caption names, and for "all" of them."""
    sprites: list[Sprite] = record["sprites"]
    scores = score_found(sprites, found)
    pairs, others = (Counter((s.colour, s.shape) for s in some) for some in (sprites, found))
    scores["binding"] = int(pairs == others)
    if record["relation"]:
        (other,) = {s.shape for s in sprites} - {record["shape"]}
        cells = {s.shape: s.position for s in found}
        scores["relation"] = int(
            len(found) == 2
            and cells.keys() == {record["shape"], other}
            and record["relation"] in canvas.relation(cells[record["shape"]], cells[other])
        )
    named = {name: scores[name] for name in NAMED[record["tag"]]}
    return named | {"all": min(named.values())}


def sprites_in(text: str) -> tuple[list[Sprite], bool]:
    """Returns the sprites that a description names, and whether it says nothing else."""
    found = [Sprite(*match.groups()) for match in PHRASE.finditer(text)]
    rest = PHRASE.sub("", text).replace(" and ", "").replace(", ", "").strip()
    return found, not rest
