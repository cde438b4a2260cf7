"""Dependencies: a run that begins with parameters of another run of its sweep waits for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.runs.warm_start import runs_needed


def dependencies(
    runs: Sequence[RunConfig], folder: Path, branches: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Returns the names of runs that depend on others of the runs, each with the others' names.

    Args:
      runs: a sweep's, or some of them.
      folder: of the sweep.
      branches: see `Sweep`.

    Raises:
      ConfigError: runs that wait for each other.
    """
    names = {RunDirectory(folder / run.name).path: run.name for run in runs}
    found = {}
    for run in runs:
        needed = runs_needed(run, RunDirectory(folder / run.name))
        waits_for = [names[one.path] for one in needed if one.path in names]
        if branches.get(run.name) in names.values():
            waits_for.append(branches[run.name])
        if waits_for:
            found[run.name] = tuple(dict.fromkeys(waits_for))
    for name in found:
        _check_acyclic([name], found)
    return found


def _check_acyclic(seen: list[str], parents: Mapping[str, tuple[str, ...]]) -> None:
    for parent in parents.get(seen[-1], ()):
        if parent in seen:
            raise ConfigError(
                f"runs wait for each other: {' for '.join([*seen, parent])}, by initialize_from, "
                "initialize_parts or branches; one of them must have fresh parameters."
            )
        _check_acyclic([*seen, parent], parents)
