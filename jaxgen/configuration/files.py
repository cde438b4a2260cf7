"""The folders where gin files are found, and the error when one is not."""

from __future__ import annotations

import os
from pathlib import Path

import jaxgen
from jaxgen.configuration.suggesting import did_you_mean, nearest
from jaxgen.errors import ConfigError


def library_folders() -> tuple[Path, ...]:
    """Returns the folders of jaxgen's own gin files: the checkout's, or the wheel's."""
    package = Path(jaxgen.__file__).resolve().parent
    checkout = package.parent / "gin"
    # Beside an installed jaxgen, `gin` is the gin-config package itself: not a folder of ours.
    in_checkout = checkout.is_dir() and not (checkout / "__init__.py").exists()
    folders = (checkout, package / "gin_files") if in_checkout else (package / "gin_files",)
    return tuple(folder for folder in folders if folder.is_dir())


def find_gin_file(name: str, included_by: Path | None = None, location: str = "--gin_file") -> Path:
    """Returns the file that `name` stands for.

    Looked for beside the including file, in the current folder, then among jaxgen's own files,
    with or without a leading `gin/`. A file of jaxgen's own looks there before the current folder,
    so that what it includes cannot be replaced by accident. `location` is who asks,
    for the error.

    Raises:
      ConfigError: if there is no such file, naming the nearest ones.
    """
    path = Path(name).expanduser()
    library = library_folders()
    folders = [Path()]
    if included_by is not None:
        own = any(included_by.resolve().is_relative_to(folder) for folder in library)
        folders = [included_by.parent] + ([*library, Path()] if own else [Path()])
    candidates = [folder / path for folder in folders]
    if not path.is_absolute():
        candidates += [folder / path for folder in library]
        candidates += [folder / name.removeprefix("gin/") for folder in library]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ConfigError(
        f"{location}: there is no file `{name}`{did_you_mean(_files_like(path, folders))}"
    )


def read_gin_file(path: Path) -> str:
    """Returns the text of a gin file.

    Raises:
      ConfigError: if it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{shown(path)} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{shown(path)} is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error


def shown(path: Path) -> str:
    """Returns the path as a person would type it from the current folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _files_like(path: Path, folders: list[Path]) -> list[str]:
    known = [
        file.relative_to(folder).as_posix()
        for folder in library_folders()
        for file in sorted(folder.rglob("*.gin"))
    ]
    for folder in folders:
        known += [shown(file) for file in sorted((folder / path).parent.glob("*.gin"))]
    same_name = [name for name in known if Path(name).name == path.name]
    return list(dict.fromkeys([*same_name, *nearest(path.as_posix(), known)]))[:3]
