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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from jaxgen.domains import Domain, NonNegativeInt, PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.studies.study_runs import rung_of
from jaxgen.sweeps.dependencies import dependencies
from jaxgen.sweeps.early_stopping import EarlyStopping
from jaxgen.training.execution import ExecutionConfig

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+,-]*")


@dataclasses.dataclass(frozen=True)
class Resources:
    """The resources of a cluster that one run needs.

    Attributes:
      cpus: how many cores.
      gpus: how many accelerators, which Ray and Slurm call GPUs.
      memory_gigabytes: None leaves it to the cluster.
      hours: the time limit on Slurm; a run that exceeds it continues when submitted again.
    """

    cpus: PositiveInt = 1
    gpus: NonNegativeInt = 0
    memory_gigabytes: PositiveFloat | None = None
    hours: PositiveFloat = 24.0

    def __post_init__(self):
        check_domains(self, "Resources")


@dataclasses.dataclass(frozen=True)
class EnergyModel:
    """The assumptions of an estimate of energy.

    Attributes:
      chip_watts: the power of a chip (its TDP), in watts.
      chips: how many chips one run keeps busy.
      overhead: energy of the building over that of its machines (PUE).
    """

    chip_watts: PositiveFloat = 65.0
    chips: PositiveInt = 1
    overhead: Annotated[float, Domain(1)] = 1.1

    def __post_init__(self):
        check_domains(self, "EnergyModel")

    def kilowatt_hours(self, seconds: float) -> float:
        """Returns the energy of a run: chip-hours x watts x overhead."""
        return seconds / 3600 * self.chips * self.chip_watts * self.overhead / 1000


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Runs that answer one question.

    Attributes:
      name: of the sweep.
      version: chosen by a person; never "latest".
      runs: with different names, in the order in which they start. With the largest first, no
        worker waits for the last one.
      title: of the report.
      lead: the report's first paragraph.
      after: a function of an importable module, called in a run's process when the run has
        finished; it is called again if that process died in it.
      early_stopping: when a run stops early; None: never.
      execution: how the runs are executed; durations such as "5%" suit runs of unlike lengths.
      resources: of one run on a cluster.
      energy: the assumptions of the estimate of energy.
      branches: runs that continue from a checkpoint of another run, their trunk, by name; made by
        `diagnostics.cooldown`. They wait for it, and the report leaves the trunk out.
      held_out: rungs (NAME of NAME-seedN), each the largest of its ladder, that are predicted from
        the other rungs before any of their own runs begins.
    """

    name: str
    version: str
    runs: Sequence[RunConfig]
    title: str = ""
    lead: str = ""
    after: Callable[[RunDirectory], None] | None = None
    early_stopping: EarlyStopping | None = None
    execution: ExecutionConfig = ExecutionConfig()
    resources: Resources = Resources()
    energy: EnergyModel = EnergyModel()
    branches: Mapping[str, str] = dataclasses.field(default_factory=dict)
    held_out: Sequence[str] = ()

    def __post_init__(self):
        object.__setattr__(self, "runs", tuple(self.runs))
        if not self.version or self.version == "latest":
            raise ConfigError(f"the sweep {self.name!r} needs a version such as '1', not 'latest'.")
        for kind, name in (("sweep", self.name), *(("run", run.name) for run in self.runs)):
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"a {kind} cannot be called {name!r}, because a folder gets its name; use only "
                    "letters, digits and _ - . = + ,"
                )
        if not self.runs:
            raise ConfigError(f"the sweep {self.name!r} has no runs; is an axis of its grid empty?")
        rungs = {rung_of(run.name) for run in self.runs}
        held_out = (self.held_out,) if isinstance(self.held_out, str) else tuple(self.held_out)
        object.__setattr__(self, "held_out", held_out)
        if held_out and not set(held_out) < rungs:
            raise ConfigError(
                f"the sweep {self.name!r} has held_out={list(held_out)}; it must name some, but "
                f"not all, of its rungs: {', '.join(sorted(rungs)[:8])}."
            )
        counts = collections.Counter(run.name for run in self.runs)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise ConfigError(
                f"{len(twice)} names of runs in the sweep {self.name!r} occur more than once: "
                f"{', '.join(twice[:5])}; a run's folder has its name: put what differs into it."
            )
        unknown = {*self.branches, *self.branches.values()} - counts.keys()
        if unknown:
            raise ConfigError(
                f"the sweep {self.name!r} has branches={dict(self.branches)}, in which "
                f"{', '.join(sorted(unknown))} is not a run of it."
            )
        dependencies(self.runs, Path(self.name), self.branches)
        for run in self.runs:
            self.execution.microbatch_size(run.train)

    def branches_of(self, trunk: str) -> list[RunConfig]:
        """Returns the runs that continue from a checkpoint of `trunk`."""
        return [run for run in self.runs if self.branches.get(run.name) == trunk]

    @property
    def identity(self) -> str:
        """Returns its name and version, NAME@VERSION."""
        return f"{self.name}@{self.version}"

    def directories(self, folder: str | os.PathLike) -> list[RunDirectory]:
        """Returns the directories of the runs, in order."""
        return [RunDirectory(Path(folder) / run.name) for run in self.runs]

    def index_of(self, name: str) -> int:
        """Returns the index of a run that is named by its name or by its index itself.

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
    """Returns the SWEEP of a Python file.

    The file is imported under its own name with its folder in front of `sys.path`, as if it were
    run, so that the processes of runs find the functions it defines.

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
        # Modules of a folder that cannot be loaded must not hide the standard library's.
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
