"""`jaxgen config show|diff|check`: inspects configurations before any compute is spent."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgen.configuration import check_files, difference, load_recorded, load_run, to_gin
from jaxgen.errors import ConfigError

_OPERATIVE_CONFIG = "config.gin"


def show(arguments: argparse.Namespace) -> int:
    """Prints the operative configuration: every value as gin text that builds it.

    A gin file has a run and its execution; of a run directory the run alone is printed.

    Args:
      arguments: `gin_files` and `bindings`, as `parse_flags` returns them; `path`, a gin file or
        run directory to read first, or None.
    """
    path = [] if arguments.path is None else [arguments.path]
    parts = _load(path, arguments.gin_files, arguments.bindings)
    print("\n".join(to_gin(part) for part in parts.values()), end="")
    return 0


def diff(arguments: argparse.Namespace) -> int:
    """Prints where two configurations differ. Returns 1 if they do, as diff(1), else 0.

    Args:
      arguments: `first` and `second`, each a gin file or a run directory; `gin_files` and
        `bindings` for both.
    """
    first, second = (
        _load([path], arguments.gin_files, arguments.bindings)
        for path in (arguments.first, arguments.second)
    )
    lines = difference(first["run"], second["run"])
    if "execution" in first and "execution" in second:
        found = difference(first["execution"], second["execution"])
        lines += [f"execution.{line}" for line in found]
    for line in lines:
        print(line)
    return 1 if lines else 0


def check(arguments: argparse.Namespace) -> int:
    """Checks gin files one by one. Returns 1 if any is wrong, with its errors on stderr, else 0.

    Args:
      arguments: `files`, gin files or run directories; `gin_files` and `bindings` for all.
    """
    failed = 0
    for path in arguments.files:
        try:
            if Path(path).is_dir():
                _load([path], arguments.gin_files, arguments.bindings)
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


def _load(path: Sequence[str], gin_files: Sequence[str], bindings: Sequence[str]) -> dict[str, Any]:
    """Returns the "run" of a run directory, or also the "execution" of gin files."""
    if path and Path(path[0]).is_dir():
        return {"run": load_recorded(Path(path[0]) / _OPERATIVE_CONFIG, gin_files, bindings)}
    run, execution = load_run([*path, *gin_files], bindings)
    return {"run": run, "execution": execution}
