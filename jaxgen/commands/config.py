"""`jaxgen config show|diff|fields|check`: inspects configurations before any compute is spent."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgen.configuration import (
    check_files,
    difference,
    load_recorded,
    load_run,
    registered,
    to_gin,
)
from jaxgen.configuration.conforming import describe
from jaxgen.configuration.suggesting import did_you_mean, nearest
from jaxgen.configuration.table import parameters
from jaxgen.domains import domains_of
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


def fields(arguments: argparse.Namespace) -> int:
    """Prints the names that a configuration may use, or the parameters of one.

    Args:
      arguments: `name`, of something in gin, or None.
    """
    table = registered()
    if arguments.name is None:
        width = max(map(len, table))
        for name in sorted(table):
            summary = (inspect.getdoc(table[name]) or "").split("\n\n")[0]
            print(f"{name:<{width}}  {' '.join(summary.split())}")
        return 0
    if arguments.name not in table:
        raise ConfigError(
            f"there is nothing named {arguments.name!r}"
            f"{did_you_mean(nearest(arguments.name, table)) or '.'} See `jaxgen config fields`."
        )
    factory = table[arguments.name]
    print(f"{' '.join((inspect.getdoc(factory) or '').split(chr(10) * 2)[0].split())}\n")
    defaults = inspect.signature(factory).parameters
    domains = domains_of(factory) if isinstance(factory, type) else {}
    for name, parameter in parameters(factory).items():
        default = "required" if parameter.required else f"= {defaults[name].default!r:.60}"
        domain = f", {domains[name][0]}" if name in domains else ""
        print(f"{arguments.name}.{name}: {describe(parameter.hint)}{domain}  {default}")
        meaning = _meaning(factory, name)
        if meaning:
            print(textwrap.fill(meaning, 96, initial_indent="    ", subsequent_indent="    "))
    return 0


def _meaning(factory: Any, name: str) -> str:
    """Returns what the docstrings of a class and its bases say of an attribute."""
    for part in getattr(factory, "__mro__", (factory,)):
        found = re.search(
            rf"(?ms)^ *(?:Attributes|Args):.*?^ +{name}: (.*?)(?=^ +\w+: |\n *\n|\Z)",
            part.__doc__ or "",
        )
        if found:
            return " ".join(found[1].split())
    return ""


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
