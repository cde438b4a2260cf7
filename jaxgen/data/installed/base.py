"""Sources of real media that need no download of their own: they read what a package installed.

The files stay where the package put them. One that is missing is an error that says how to
install it.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from jaxgen.data.hashing import hash64, is_heldout
from jaxgen.data.protocols import Record, Split
from jaxgen.data.sources import some
from jaxgen.data.storage import stamp_of
from jaxgen.domains import check_domains
from jaxgen.errors import DataError
from jaxgen.json_values import read_json

Item = tuple[str | None, Callable[[], Record]]
"""What decides an item's split, None for one that is always trained on; and what makes it."""


class InstalledSource:
    """The base of sources that read installed packages: frozen dataclasses.

    Attributes:
      heldout_fraction: share of the items that is held out, by a hash of what decides their split.
    """

    heldout_fraction: float

    key_field: ClassVar[str] = "key"

    def __post_init__(self):
        check_domains(self, type(self).__name__)

    def items(self) -> Iterator[Item]:
        """Yields the items in a fixed order; only those that are asked for are made."""
        raise NotImplementedError

    def used_files(self) -> list[Path]:
        """Returns the files that the records depend on; raises DataError if they are missing."""
        raise NotImplementedError

    def read(self, split: Split) -> Iterator[Record]:
        """Yields the records of a split."""
        kept = (
            make()
            for key, make in self.items()
            if (key is not None and is_heldout(key, self.heldout_fraction)) == (split == "heldout")
        )
        return some(kept, split, type(self).__name__)

    def content_digest(self) -> str:
        """Returns a text that changes with the settings, and the name, size or time of a file."""
        return f"{hash64(self, *((file, stamp_of(str(file))) for file in self.used_files())):016x}"


def installed(path: str | os.PathLike[str], cure: str) -> Path:
    """Returns a path that a package installs.

    Raises:
      DataError: if there is nothing, with the cure.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise DataError(f"{found} is not there: {cure}.")
    return found


def package_folder(name: str, cure: str) -> Path:
    """Returns the folder of a Python package, which is not imported; raises as `installed`."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise DataError(f"the package {name} is not installed: {cure}.")
    return Path(spec.origin).parent


def read_installed_json(path: Path, shape: Any, cure: str) -> Any:
    """Returns the JSON value of a package's file; raises DataError if it is missing or damaged."""
    return read_json(installed(path, cure), shape, "install the package again", DataError)
