"""A study: many runs under one folder, several at a time, each in a process of its own.

It is a sweep of this machine without retries, for Python code that needs no sweep file.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxgen.run_config import RunConfig
from jaxgen.scaling.sweeps.driving import drive
from jaxgen.scaling.sweeps.local import LocalEngine
from jaxgen.scaling.sweeps.sweep import Sweep
from jaxgen.training.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a run.

    Attributes:
      directory: the run's.
      error: why it failed, None where it finished.
    """

    directory: RunDirectory
    error: str | None


def run_study(
    configs: Sequence[RunConfig],
    folder: str | os.PathLike,
    jobs: int | None = None,
    after: Callable[[RunDirectory], None] | None = None,
) -> list[Result]:
    """Runs configurations in `folder/NAME`, with live progress.

    Finished runs are not run again and killed ones go on, so a study is continued by starting it
    again. A run that fails is reported and the others go on.

    Args:
      configs: with different names.
      folder: of the study.
      jobs: runs at a time; one for each core by default. Each has its share of the cores.
      after: a function of a module, called in the run's process when the run is finished.

    Returns:
      What became of each, in order.

    Raises:
      KeyboardInterrupt: when asked to stop, after every run has saved its state.
    """
    sweep = Sweep("study", "1", configs, after=after)
    states = drive(sweep, Path(folder), LocalEngine(sweep, Path(folder), jobs), retries=0)
    return [
        Result(directory, None if state.state == "finished" else state.why)
        for directory, state in zip(sweep.directories(folder), states, strict=True)
    ]
