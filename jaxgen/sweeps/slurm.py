"""The Slurm engine: a sweep as a job array, each task of which does one run."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxgen.errors import ConfigError
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
    needs = sweep.resources
    limit = f"%{jobs}" if jobs is not None else ""
    settings = [
        f"--job-name={sweep.identity}",
        f"--array={_ranges(indices)}{limit}",
        "--ntasks=1",
        f"--cpus-per-task={needs.cpus}",
        f"--time={_time(needs.hours)}",
        f"--output={folder}/slurm-%A_%a.log",
        # A task that runs out of time or is preempted saves its state first.
        "--signal=B:TERM@120",
        "--requeue",
    ]
    if needs.gpus:
        settings.append(f"--gpus-per-task={needs.gpus}")
    if needs.memory_gigabytes is not None:
        settings.append(f"--mem={round(needs.memory_gigabytes * 1024)}M")
    settings += options  # Last, because sbatch takes the last of two.
    arguments = one_run_arguments(file, folder, "TASK", retries)
    command = shlex.join([sys.executable, "-m", "jaxgen", *arguments])
    command = command.replace("--only=TASK", '--only="$SLURM_ARRAY_TASK_ID"')
    lines = ["#!/bin/bash", *(f"#SBATCH {setting}" for setting in settings)]
    return "\n".join(
        [*lines, "set -eu", f"cd {shlex.quote(str(Path.cwd()))}", f"exec {command}", ""]
    )


def submit(script: str, folder: Path) -> str:
    """Writes the script into the folder and submits it. Returns the output of sbatch.

    Raises:
      ConfigError: if there is no sbatch, or it refuses.
    """
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "--engine=slurm needs sbatch, which is not on PATH: run the command on a login node of "
            "the cluster, or add --dry-run to print the script."
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sweep.sbatch"
    path.write_text(script)
    found = subprocess.run(["sbatch", str(path)], capture_output=True, text=True)
    if found.returncode != 0:
        raise ConfigError(f"sbatch refused {path}: {found.stderr.strip() or 'no reason given'}")
    return found.stdout.strip()


def _ranges(indices: Sequence[int]) -> str:
    """Returns 0,1,2,5 as "0-2,5"."""
    ranges: list[list[int]] = []
    for index in sorted(indices):
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def _time(hours: float) -> str:
    minutes = max(1, round(hours * 60))
    return f"{minutes // 60}:{minutes % 60:02}:00"
