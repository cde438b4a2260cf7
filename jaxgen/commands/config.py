"""`jaxgen config show|diff|check`: what a configuration says, before anything is spent on it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgen.configuration import check_files, difference, load, load_recorded, to_gin
from jaxgen.errors import ConfigError

_OPERATIVE_CONFIG = "config.gin"


def show(arguments: argparse.Namespace) -> int:
    """Prints the operative configuration: every value of the run, as gin text that builds it.

    Args:
      arguments: `gin_files` and `bindings`, as `parse_flags` returns them; `path`, a gin file or
        run directory to read first, or None.
    """
    if arguments.path is None:
        config = load(arguments.gin_files, arguments.bindings)
    else:
        config = _load(arguments.path, arguments.gin_files, arguments.bindings)
    print(to_gin(config), end="")
    return 0


def diff(arguments: argparse.Namespace) -> int:
    """Prints where two configurations differ; 1 if they do, as diff(1).

    Args:
      arguments: `first` and `second`, each a gin file or a run directory; `gin_files` and
        `bindings` for both.
    """
    first, second = (
        _load(path, arguments.gin_files, arguments.bindings)
        for path in (arguments.first, arguments.second)
    )
    lines = difference(first, second)
    for line in lines:
        print(line)
    return 1 if lines else 0


def check(arguments: argparse.Namespace) -> int:
    """Checks gin files, each for itself; 1 if any is wrong, with its errors on stderr.

    Args:
      arguments: `files`, gin files or run directories; `gin_files` and `bindings` for all.
    """
    failed = 0
    for path in arguments.files:
        try:
            if Path(path).is_dir():
                _load(path, arguments.gin_files, arguments.bindings)
                required = ()
            else:
                required = check_files([path, *arguments.gin_files], arguments.bindings)
        except ConfigError as error:
            failed += 1
            for line in str(error).splitlines():
                print(f"failed  {path}: {line}", file=sys.stderr)
        else:
            print(f"ok      {path}" + (f" (requires {', '.join(required)})" if required else ""))
    return 1 if failed else 0


def _load(path: str, gin_files: Sequence[str], bindings: Sequence[str]) -> Any:
    """Returns the run of a gin file, or of a run directory, with more files and bindings."""
    if Path(path).is_dir():
        return load_recorded(Path(path) / _OPERATIVE_CONFIG, gin_files, bindings)
    return load([path, *gin_files], bindings)
