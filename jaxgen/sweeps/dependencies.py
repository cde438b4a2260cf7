"""Dependencies: a run that begins with parameters of another run of its sweep waits for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.runs.warm_start import parent_of


def dependencies(
    runs: Sequence[RunConfig], folder: Path, branches: Mapping[str, str]
) -> dict[str, str]:
    """Returns the names of runs that depend on another of the runs, each with that one's name.

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
        parent = parent_of(run, RunDirectory(folder / run.name))
        if parent is not None and parent.path in names:
            found[run.name] = names[parent.path]
        if branches.get(run.name) in names.values():
            found[run.name] = branches[run.name]
    for name in found:
        _check_acyclic(name, found)
    return found


def _check_acyclic(name: str, parents: Mapping[str, str]) -> None:
    seen = [name]
    while seen[-1] in parents:
        seen.append(parents[seen[-1]])
        if seen[-1] in seen[:-1]:
            raise ConfigError(
                f"runs wait for each other: {' for '.join(seen)}, by initialize_from or branches; "
                "one of them must have fresh parameters."
            )
