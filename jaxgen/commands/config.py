"""`jaxgen config show|diff|check`: what a configuration says, before anything is spent on it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgen.configuration import check_files, difference, load, to_gin
from jaxgen.errors import ConfigError

_OPERATIVE_CONFIG = "config.gin"


def show(arguments: argparse.Namespace) -> int:
    """Prints the operative configuration: every value of the run, as gin text that builds it.

    Args:
      arguments: `gin_files` and `bindings`, as `parse_flags` returns them; `path`, a gin file or
        run directory to read first, or None.
    """
    paths = [] if arguments.path is None else [arguments.path]
    gin_files = [*map(_gin_file, paths), *arguments.gin_files]
    print(to_gin(load(gin_files, arguments.bindings)), end="")
    return 0


def diff(arguments: argparse.Namespace) -> int:
    """Prints where two configurations differ; 1 if they do, as diff(1).

    Args:
      arguments: `first` and `second`, each a gin file or a run directory; `bindings` for both.
    """
    first, second = (
        _load(path, arguments.bindings) for path in (arguments.first, arguments.second)
    )
    lines = difference(first, second)
    for line in lines:
        print(line)
    return 1 if lines else 0


def check(arguments: argparse.Namespace) -> int:
    """Checks gin files, each for itself; 1 if any is wrong, with its errors on stderr.

    Args:
      arguments: `files`, gin files or run directories; `bindings` for all.
    """
    failed = 0
    for path in arguments.files:
        try:
            required = check_files([_gin_file(path)], arguments.bindings)
        except ConfigError as error:
            failed += 1
            for line in str(error).splitlines():
                print(f"failed  {path}: {line}", file=sys.stderr)
        else:
            print(f"ok      {path}" + (f" (requires {', '.join(required)})" if required else ""))
    return 1 if failed else 0


def _load(path: str, bindings: Sequence[str]) -> Any:
    return load([_gin_file(path)], bindings)


def _gin_file(path: str) -> str:
    """A gin file itself, and the operative configuration of a run directory."""
    folder = Path(path)
    return str(folder / _OPERATIVE_CONFIG) if folder.is_dir() else path
