"""Real text that every machine with Python has: no download for the first run.

The standard library's sources are the code; their docstrings and the language reference in
`pydoc_data.topics` are the English prose. Both split by file, with the same key, so that a held-out
file's docstrings are not trained on as code either. A file that mentions its licence is never held
out, so that no held-out loss rewards memorised licences.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

from jaxgen.data.hashing import hash64, is_heldout
from jaxgen.data.protocols import Record, Split
from jaxgen.domains import NonNegativeInt, UnitFraction, check_domains
from jaxgen.errors import DataError

# Tests of Python itself, bundled third-party wheels, tables and generated grammars.
SKIPPED_FOLDERS = {
    "test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "encodings",
    "lib2to3", "turtledemo", "pydoc_data", "_bundled",
}  # fmt: skip
LICENCE_WORDS = ("copyright", "licence", "license", "all rights reserved")

PARSING_TRIES = 3
_PARSING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class StandardLibraryCode:
    """Reads one record {"text", "path"} for each source file of Python's standard library.

    Attributes:
      heldout_fraction: share of the files that is held out.
    """

    heldout_fraction: UnitFraction = 0.05

    def __post_init__(self):
        check_domains(self, "standard_library_code")

    def read(self, split: Split) -> Iterator[Record]:
        """Yields the files of a split, in the order of their names."""
        for key, text in _files():
            if _split_of(key, text, self.heldout_fraction) == split:
                yield {"text": text, "path": key}

    def content_digest(self) -> str:
        """Returns a text that changes with Python."""
        return _digest("code", self.heldout_fraction)


@dataclasses.dataclass(frozen=True)
class StandardLibraryProse:
    """Reads one record {"text", "path"} per file's docstrings, and per topic of the reference.

    Attributes:
      heldout_fraction: share of the files and topics that is held out.
      min_characters: files with fewer characters of docstrings are left out.
    """

    heldout_fraction: UnitFraction = 0.05
    min_characters: NonNegativeInt = 200

    def __post_init__(self):
        check_domains(self, "standard_library_prose")

    def read(self, split: Split) -> Iterator[Record]:
        """Yields the records of a split: docstrings in the order of the files, then topics."""
        from pydoc_data.topics import topics

        for key, text in _files():
            if _split_of(key, text, self.heldout_fraction) == split:
                prose = "\n\n".join(_docstrings(text))
                if len(prose) >= self.min_characters:
                    yield {"text": prose, "path": key}
        for name in sorted(topics):
            if _split_of(f"topic:{name}", topics[name], self.heldout_fraction) == split:
                yield {"text": topics[name].strip(), "path": f"topic:{name}"}

    def content_digest(self) -> str:
        """Returns a text that changes with Python."""
        return _digest("prose", self.heldout_fraction, self.min_characters)


def _files() -> Iterator[tuple[str, str]]:
    """Yields (path below the library, text) of every source file, by name."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = False
    for file in sorted(root.rglob("*.py")):
        relative = file.relative_to(root)
        if SKIPPED_FOLDERS.isdisjoint(relative.parts[:-1]):
            text = file.read_text(encoding="utf-8", errors="replace").strip()
            if text:
                found = True
                yield relative.as_posix(), text
    if not found:
        raise DataError(
            f"Python's standard library has no sources in {root}; on Debian install python3-full, "
            "or train on text of your own (source @text_files())."
        )


def _split_of(key: str, text: str, heldout_fraction: float) -> Split:
    lowered = text.lower()
    if any(word in lowered for word in LICENCE_WORDS):
        return "train"
    return "heldout" if is_heldout(key, heldout_fraction) else "train"


def _docstrings(text: str) -> Iterator[str]:
    try:
        tree = _parse(text)
    except SyntaxError:
        return
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (docstring := ast.get_docstring(node, clean=True)):
            yield inspect.cleandoc(docstring)


def _parse(text: str) -> ast.Module:
    """Returns the syntax tree of a text, for any number of threads.

    CPython before 3.11.8 and 3.12.2 counts the depth of a tree in one place for all threads: when
    the collector lets another thread parse in the middle of a tree, either may end in a
    SystemError that the text did nothing to deserve (github.com/python/cpython, gh-106905). The
    lock keeps our own threads apart; a library that parses meanwhile is what the tries are for.
    """
    with _PARSING:
        for _ in range(PARSING_TRIES - 1):
            with contextlib.suppress(SystemError):
                return ast.parse(text)
        return ast.parse(text)


def _digest(*settings: object) -> str:
    root = sysconfig.get_paths()["stdlib"]
    return f"{hash64(*settings, sys.version, root, sorted(SKIPPED_FOLDERS)):x}"
