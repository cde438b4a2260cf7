"""From a pattern to files."""

from __future__ import annotations

import glob
from pathlib import Path

from jaxgen.errors import DataError


def matching_files(pattern: str, endings: tuple[str, ...]) -> tuple[Path, list[Path]]:
    """The files of a file name, a folder or a glob, sorted by name, and the folder they are under.

    Args:
      pattern: a file, a folder (its files with one of the endings, at any depth) or a glob.
      endings: of the files of a folder.

    Raises:
      DataError: if nothing matches.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        root = path
        candidates = [file for file in path.rglob("*") if file.suffix in endings]
        wanted = f"a file ending in {', '.join(endings)}"
    else:
        plain = []
        for part in path.parts:
            if glob.has_magic(part):
                break
            plain.append(part)
        root = Path(*plain) if plain else Path()
        candidates = [Path(name) for name in glob.glob(str(path), recursive=True)]
        wanted = "a file"
    files = sorted(file for file in candidates if file.is_file())
    if not files:
        raise DataError(
            f"{pattern!r} matches no file: {wanted} is wanted "
            f"(from {Path.cwd()}; globs may use ** for any depth)."
        )
    return root, files
