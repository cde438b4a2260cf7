"""Configurations: frozen dataclasses, written in gin files, on the command line or in Python.

A configuration is a tree of frozen dataclasses, `run` at its root. gin is one way to write it down:
`load` builds the tree from files and bindings and keeps no state, `to_gin` writes any tree, however
it was made, as a file that loads to an equal one. The files are plain gin: includes, scopes,
macros and references mean what they mean to gin itself, but no name is silently ignored.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgen.configuration.bindings import Binding
from jaxgen.configuration.building import build, check
from jaxgen.configuration.differing import compared, differences
from jaxgen.configuration.files import read_gin_file, shown
from jaxgen.configuration.flags import parse_flags
from jaxgen.configuration.imports import available, describe_modules, imported, modules_used
from jaxgen.configuration.reading import read_files, read_text
from jaxgen.configuration.registry import registered
from jaxgen.configuration.registry.models import registered_models
from jaxgen.configuration.relocating import relocated, without_files
from jaxgen.configuration.renamed import migrate
from jaxgen.configuration.rendering import digest, render
from jaxgen.configuration.table import Table, dataclasses_in
from jaxgen.errors import ConfigError, JaxgenWarning
from jaxgen.json_values import read_json

__all__ = [
    "Table",
    "check_files",
    "dataclasses_in",
    "describe_imports",
    "difference",
    "fingerprint",
    "imported",
    "load",
    "load_recorded",
    "load_recorded_run",
    "load_run",
    "load_text",
    "parse_flags",
    "recorded_imports",
    "registered",
    "registered_models",
    "to_gin",
]


def load(
    gin_files: Sequence[str],
    bindings: Sequence[str] = (),
    root: str = "run",
    table: Table | None = None,
    beside: Sequence[str] = (),
) -> Any:
    """Returns what `@root()` builds from the files, then the bindings; later lines win.

    Files of a run may also say how it is executed (`execution`), which `load_run` returns as well.

    Args:
      gin_files: names of files, from the current folder or among those that come with jaxgen.
      bindings: lines such as `train.steps=200` or `STEPS=200`. A value that is no gin value, such
        as `TEXT=my/folder` or `train.steps=20x`, is the string itself.
      root: the name in the table to build.
      table: name to frozen dataclass or function; those of jaxgen unless given.
      beside: other names that the files bind, whose bindings `@root()` need not use.

    Raises:
      ConfigError: for whatever is wrong, all at once, each with its place and the nearest names.
    """
    lines = read_files(gin_files, bindings)
    names = available(_or_registered(table), lines.imports)
    executed = _executed(root, names)
    if executed and not beside:
        _refuse_unheard(lines.bindings[len(lines.bindings) - len(bindings) :])
    return build(lines.bindings, (root, *beside, *executed), names)[0]


def load_run(gin_files: Sequence[str], bindings: Sequence[str] = ()) -> tuple[Any, Any]:
    """Returns what a run is and how it is executed: a RunConfig and an ExecutionConfig.

    Raises:
      ConfigError: as `load`.
    """
    lines = read_files(gin_files, bindings)
    run, execution = build(
        lines.bindings, ("run", "execution"), available(registered(), lines.imports)
    )
    return run, execution


def load_text(
    text: str,
    bindings: Sequence[str] = (),
    root: str = "run",
    table: Table | None = None,
    source: str = "text",
) -> Any:
    """Loads as `load` does, from text; `source` names it in errors."""
    lines = read_text(text, bindings, source)
    names = available(_or_registered(table), lines.imports)
    return build(lines.bindings, (root, *_executed(root, names)), names)[0]


def load_recorded(
    path: Path,
    gin_files: Sequence[str] = (),
    bindings: Sequence[str] = (),
    root: str = "run",
    table: Table | None = None,
) -> Any:
    """As `load`, from the config.gin of a run directory, then more files and bindings.

    Names that have changed since it was written are replaced, with a JaxgenWarning that says which.
    Files are found where they are now, wherever the run was moved to; see `relocating`.

    Raises:
      ConfigError: as `load`.
    """
    return _build_recorded(path, gin_files, bindings, root, table)[0]


def load_recorded_run(
    path: Path, gin_files: Sequence[str] = (), bindings: Sequence[str] = ()
) -> tuple[Any, Any]:
    """As `load_run`, from the config.gin of a run directory, then more files and bindings.

    The file has no execution: it is what the others say, or the default.

    Raises:
      ConfigError: as `load`.
    """
    run, execution = _build_recorded(path, gin_files, bindings, "run", None)
    return run, execution


def _build_recorded(
    path: Path,
    gin_files: Sequence[str],
    bindings: Sequence[str],
    root: str,
    table: Table | None,
) -> Sequence[Any]:
    recorded = read_text(read_gin_file(path), source=shown(path))
    migrated, notes = migrate(recorded.bindings)
    if notes:
        # Without the path, so that a study of a hundred old runs is told once.
        warnings.warn(
            f"a recorded configuration has names of an earlier jaxgen: {'; '.join(notes)}.",
            JaxgenWarning,
            stacklevel=3,
        )
    more = read_files(gin_files, bindings, after=len(migrated))
    files = {one["module"]: one["file"] for one in recorded_imports(path.parent)}
    imports = [*recorded.imports, *more.imports]
    names = available(_or_registered(table), imports, files)
    found = relocated(migrated, names, path.parent)
    return build([*found, *more.bindings], (root, *_executed(root, names)), names)


IMPORTS = {"imports?": [{"module": str, "file": str}]}
FIX = "restore it from a copy"


def recorded_imports(run_dir: Path) -> list[dict[str, str]]:
    """Returns what run.json says of modules that a run has parts of; nothing if it is not there."""
    try:
        return read_json(run_dir / "run.json", IMPORTS, FIX, ConfigError).get("imports", [])
    except (FileNotFoundError, NotADirectoryError):
        return []


def describe_imports(config: Any) -> list[dict[str, str]]:
    """Returns the name, file and digest of each module that a configuration has parts of."""
    return describe_modules(modules_used(config, registered()))


def check_files(
    gin_files: Sequence[str],
    bindings: Sequence[str] = (),
    root: str = "run",
    table: Table | None = None,
) -> tuple[str, ...]:
    """Checks files that need not be whole, and returns the names that they still require.

    A file that binds `root` must build, but for parameters without a default and for macros that it
    declares `NAME = %gin.REQUIRED`. Any other is a part for runs to include, which may also use
    macros that are set elsewhere: its names, types and values are checked.

    Raises:
      ConfigError: as `load`.
    """
    lines = read_files(gin_files, bindings)
    names = available(_or_registered(table), lines.imports)
    return check(lines.bindings, (root, *_executed(root, names)), names)


def to_gin(config: Any, table: Table | None = None) -> str:
    """Returns the operative configuration: every field of the tree as canonical gin text.

    `load_text(to_gin(config)) == config`, and equal trees give equal texts.

    Raises:
      ConfigError: for a value of another type than its field's, or that gin cannot write.
    """
    return render(config, _or_registered(table))


def fingerprint(config: Any, table: Table | None = None) -> str:
    """Returns 12 hexadecimal digits that are equal for equal configurations."""
    text = to_gin(compared(config), table)
    return digest(without_files(text, _or_registered(table)))


def difference(a: Any, b: Any) -> list[str]:
    """Lines such as `model.num_layers: 4 -> 6`; empty where the fingerprints are equal."""
    return list(differences(a, b))


def _refuse_unheard(bindings: Sequence[Binding]) -> None:
    """Raises for a binding of the caller's own that a RunConfig does not have."""
    for binding in bindings:
        if binding.name in ("execution", "mesh", "pipeline", "rules"):
            raise ConfigError(
                f"`{binding}` says how a run is executed, and what is built here is the run alone; "
                "leave it out, or build both by jaxgen.configuration.load_run."
            )


def _executed(root: str, table: Table) -> list[str]:
    """Returns the other root that files of a run have; see `training.execution`."""
    return ["execution"] if root == "run" and "execution" in table else []


def _or_registered(table: Table | None) -> Table:
    return registered() if table is None else table
