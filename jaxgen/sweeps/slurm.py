"""The Slurm engine: a sweep as a job array, each task of which does one run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jaxgen.slurm import TASK, JobArray
from jaxgen.sweeps.sweep import Sweep


def one_run_arguments(file: Path, folder: Path, run: str, retries: int) -> list[str]:
    """Returns the arguments with which `jaxgen` does one run of a sweep."""
    return ["sweep", str(file), "--go", f"--only={run}", f"--run_dir={folder}",
            f"--retries={retries}"]  # fmt: skip


def render(
    sweep: Sweep,
    file: Path,
    folder: Path,
    indices: Sequence[int],
    jobs: int | None = None,
    retries: int = 1,
    options: Sequence[str] = (),
) -> str:
    """Returns the sbatch script.

    Args:
      sweep: the runs and the resources of each.
      file: that declares the sweep; folders are shared by all nodes.
      folder: of the sweep.
      indices: of the runs to do.
      jobs: how many tasks run at a time; Slurm decides if None.
      retries: how often a run that fails is tried again, within its task.
      options: lines for sbatch, such as "--partition=long".
    """
    needs, arguments = sweep.resources, one_run_arguments(file, folder, TASK, retries)
    return JobArray(
        name=sweep.identity,
        indices=indices,
        command=[sys.executable, "-m", "jaxgen", *arguments],
        logs=folder,
        at_once=jobs,
        cpus=needs.cpus,
        gpus=needs.gpus,
        memory_gigabytes=needs.memory_gigabytes,
        hours=needs.hours,
        options=options,
    ).script()
