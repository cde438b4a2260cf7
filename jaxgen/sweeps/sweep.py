"""A sweep: named runs, declared in a Python file as SWEEP."""

from __future__ import annotations

import collections
import dataclasses
import difflib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.studies.study_runs import rung_of
from jaxgen.sweeps.stopping import StopRule
from jaxgen.sweeps.waiting import parents_among

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+,-]*")


@dataclasses.dataclass(frozen=True)
class Resources:
    """What one run asks of a cluster.

    Attributes:
      cpus: cores.
      gpus: accelerators, as Ray and Slurm call them.
      memory_gigabytes: None leaves it to the cluster.
      hours: after which Slurm ends it; it goes on when submitted again.
    """

    cpus: int = 1
    gpus: int = 0
    memory_gigabytes: float | None = None
    hours: float = 24.0


@dataclasses.dataclass(frozen=True)
class Power:
    """What an estimate of energy is made of.

    Attributes:
      chip_watts: what a chip may draw (its TDP), in watts.
      chips: that one run keeps busy.
      overhead: energy of the building over that of its machines (PUE).
    """

    chip_watts: float = 65.0
    chips: int = 1
    overhead: float = 1.1

    def kilowatt_hours(self, seconds: float) -> float:
        """Energy of a run: chip-hours x watts x overhead."""
        return seconds / 3600 * self.chips * self.chip_watts * self.overhead / 1000


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Runs that answer one question.

    Attributes:
      name: of the sweep.
      version: told apart by a person; never "latest".
      runs: with different names, in the order in which they begin. Largest first leaves no worker
        waiting for the last one.
      title: of the report.
      lead: the report's first paragraph.
      after: a function of an importable module, called in a run's process when it is finished; it
        is called again if that process died in it.
      stop: when a run is given up; None: never.
      resources: of one run on a cluster.
      power: for the estimate of energy.
      held_out: rungs (NAME of NAME-seedN), each the largest of its ladder, that are predicted from
        the other rungs before any run of theirs begins.
    """

    name: str
    version: str
    runs: Sequence[RunConfig]
    title: str = ""
    lead: str = ""
    after: Callable[[RunDirectory], None] | None = None
    stop: StopRule | None = None
    resources: Resources = Resources()
    power: Power = Power()
    held_out: Sequence[str] = ()

    def __post_init__(self):
        object.__setattr__(self, "runs", tuple(self.runs))
        if not self.version or self.version == "latest":
            raise ConfigError(f"the sweep {self.name!r} needs a version such as '1', not 'latest'.")
        for kind, name in (("sweep", self.name), *(("run", run.name) for run in self.runs)):
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"a {kind} cannot be called {name!r}: its name becomes a folder's; use "
                    "letters, digits and _ - . = + , alone."
                )
        if not self.runs:
            raise ConfigError(f"the sweep {self.name!r} has no runs; is an axis of its grid empty?")
        rungs = {rung_of(run.name) for run in self.runs}
        given = (self.held_out,) if isinstance(self.held_out, str) else tuple(self.held_out)
        object.__setattr__(self, "held_out", given)
        if given and not set(given) < rungs:
            raise ConfigError(
                f"the sweep {self.name!r} has held_out={list(given)}, which is not some of its "
                f"several rungs: {', '.join(sorted(rungs)[:8])}."
            )
        counts = collections.Counter(run.name for run in self.runs)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise ConfigError(
                f"{len(twice)} names of runs in the sweep {self.name!r} are given more than once: "
                f"{', '.join(twice[:5])}; a run's name is its folder's: put what differs into it."
            )

        parents_among(self.runs, Path(self.name))

    @property
    def identity(self) -> str:
        """NAME@VERSION."""
        return f"{self.name}@{self.version}"

    def directories(self, folder: str | os.PathLike) -> list[RunDirectory]:
        """Those of the runs, in order."""
        return [RunDirectory(Path(folder) / run.name) for run in self.runs]

    def index_of(self, name: str) -> int:
        """The place of a run, given by its name or by its place itself.

        Raises:
          ConfigError: if there is no such run.
        """
        names = [run.name for run in self.runs]
        if name in names:
            return names.index(name)
        if name.isdigit() and int(name) < len(names):
            return int(name)
        near = difflib.get_close_matches(name, names, 3)
        raise ConfigError(
            f"the sweep {self.name!r} has no run {name!r}; "
            + (f"did you mean {' or '.join(near)}?" if near else f"it has 0 to {len(names) - 1}.")
        )


def load_sweep(path: str | os.PathLike) -> Sweep:
    """The SWEEP of a Python file.

    The file is imported under its own name with its folder in front of `sys.path`, as if it were
    run; so functions that it defines are found again in the processes of runs.

    Raises:
      ConfigError: if there is no such file, it cannot be imported, or has no SWEEP.
    """
    path = Path(path).resolve()
    if not path.is_file() or path.suffix != ".py":
        raise ConfigError(
            f"{path} is not a Python file; name one such as experiments/quickstart.py."
        )
    if not path.stem.isidentifier():
        raise ConfigError(f"{path.name} cannot be imported: name it with letters, digits and _.")
    before = list(sys.path)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        return _import_sweep(path)
    except BaseException:
        # What cannot be loaded must not stand before the standard library's modules.
        sys.path[:] = before
        raise


def _import_sweep(path: Path) -> Sweep:
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(path.stem)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}.") from error
    if Path(getattr(module, "__file__", None) or "").resolve() != path:
        raise ConfigError(
            f"{path} has the name of another module ({module.__file__}); rename the file."
        )
    sweep = getattr(module, "SWEEP", None)
    if not isinstance(sweep, Sweep):
        found = "none" if sweep is None else f"a {type(sweep).__name__}"
        raise ConfigError(
            f"{path} must declare SWEEP = Sweep(name, version, runs=...) at its top level; it has "
            f"{found}."
        )
    return sweep
