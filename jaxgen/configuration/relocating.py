"""Files that a recorded configuration names, found again after the run has been moved.

A dataclass says which of its fields name files: `KEPT_FILES`, field to the name of the copy that a
run keeps, and `DATA_FILES`, fields that name data outside of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgen.configuration.bindings import Binding
from jaxgen.configuration.table import Table
from jaxgen.errors import ConfigError
from jaxgen.json_values import read_json

STARTED = {"started_in?": {"folder?": str, "from_run?": str}}


def relocated(bindings: Sequence[Binding], table: Table, run_dir: Path) -> list[Binding]:
    """Returns the bindings of a run's config.gin with files where they are now.

    A copy in the run's own folder always counts. Data at a relative path that is not seen from the
    current folder is looked for from where the run was started: first where that folder is now, if
    it was moved together with the run, then where it was.
    """
    return [_relocated(binding, table, run_dir) for binding in bindings]


def without_files(text: str, table: Table) -> str:
    """Returns a configuration's text without the paths of files that a run keeps.

    Those are known by their digests, wherever they are.
    """
    names = [
        re.escape(f"{name}.{field}")
        for name, part in table.items()
        for field in getattr(part, "KEPT_FILES", ())
    ]
    return re.sub(rf"(?m)^(\S*/)?({'|'.join(names)}) = .*\n", "", text) if names else text


def _relocated(binding: Binding, table: Table, run_dir: Path) -> Binding:
    part, value = table.get(binding.name), binding.value
    kept = getattr(part, "KEPT_FILES", {}).get(binding.parameter)
    if kept is not None and (run_dir / kept).exists():
        return dataclasses.replace(binding, value=str((run_dir / kept).absolute()))
    if binding.parameter in getattr(part, "DATA_FILES", ()) and isinstance(value, str):
        is_whole = "://" in value or Path(value).expanduser().is_absolute()
        if not value or is_whole or _is_there(value):
            return binding
        for folder in _folders(run_dir):
            if _is_there(str(folder / value)):
                return dataclasses.replace(binding, value=str(folder / value))
    return binding


def _folders(run_dir: Path) -> list[Path]:
    """Returns where the folder that a run was first started in may be now."""
    started: dict[str, Any] = {}
    with contextlib.suppress(OSError, ConfigError):
        record = read_json(run_dir / "run.json", STARTED, "restore it from a copy", ConfigError)
        started = record.get("started_in", {})
    found = [started.get("from_run"), started.get("folder")]
    return [(run_dir / name).resolve() for name in found if name]


def _is_there(pattern: str) -> bool:
    return Path(pattern).exists() or bool(glob.has_magic(pattern) and glob.glob(pattern))
