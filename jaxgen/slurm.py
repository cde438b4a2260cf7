"""Job arrays of Slurm: the script that sbatch reads, and its submission."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from jaxgen.cluster_tools import check_tool, run_tool

TASK = "<task>"
"""Stands in a command for the index of the task."""


@dataclasses.dataclass(frozen=True)
class JobArray:
    """A job array: one command for each index, wherever the cluster has room.

    Attributes:
      name: the job's name.
      indices: the indices of the tasks.
      command: the words of the command, with `TASK` where the task's index goes.
      logs: the folder of the tasks' output; all nodes share it.
      at_once: how many tasks run at a time; None: Slurm decides.
      cpus: cores of a task.
      gpus: accelerators of a task.
      memory_gigabytes: None leaves it to the cluster.
      hours: the time limit of a task.
      options: lines for sbatch, such as "--partition=long".
    """

    name: str
    indices: Sequence[int]
    command: Sequence[str]
    logs: Path
    at_once: int | None = None
    cpus: int = 1
    gpus: int = 0
    memory_gigabytes: float | None = None
    hours: float = 24.0
    options: Sequence[str] = ()

    def script(self) -> str:
        """Returns the sbatch script, whose tasks run in the present folder."""
        limit = f"%{self.at_once}" if self.at_once is not None else ""
        settings = [
            f"--job-name={self.name}",
            f"--array={index_ranges(self.indices)}{limit}",
            "--ntasks=1",
            f"--cpus-per-task={self.cpus}",
            f"--time={time_limit(self.hours)}",
            f"--output={self.logs}/slurm-%A_%a.log",
            # A task that runs out of time or is preempted saves its state first.
            "--signal=B:TERM@120",
            "--requeue",
        ]
        if self.gpus:
            settings.append(f"--gpus-per-task={self.gpus}")
        if self.memory_gigabytes is not None:
            settings.append(f"--mem={round(self.memory_gigabytes * 1024)}M")
        settings += self.options  # Last, because sbatch takes the last of two.
        command = " ".join(map(_word, self.command))
        lines = ["#!/bin/bash", *(f"#SBATCH {setting}" for setting in settings)]
        return "\n".join(
            [*lines, "set -eu", f"cd {shlex.quote(str(Path.cwd()))}", f"exec {command}", ""]
        )


def submit(script: str, path: Path, options: Sequence[str] = ()) -> str:
    """Writes a script into a file and submits it. Returns the output of sbatch.

    Args:
      script: the script.
      path: the file.
      options: arguments of sbatch itself, such as "--parsable".

    Raises:
      ConfigError: if there is no sbatch, or it refuses.
    """
    check_tool("sbatch")  # Before anything is written.
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    return run_tool(["sbatch", *options, str(path)])


def index_ranges(indices: Sequence[int]) -> str:
    """Returns 0,1,2,5 as "0-2,5"."""
    ranges: list[list[int]] = []
    for index in sorted(indices):
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def _word(word: str) -> str:
    """Returns a word of a command for the shell, which puts in the task's index."""
    pieces = (shlex.quote(piece) if piece else "" for piece in word.split(TASK))
    return '"$SLURM_ARRAY_TASK_ID"'.join(pieces) or "''"


def time_limit(hours: float) -> str:
    """Returns hours as Slurm writes a limit of time."""
    minutes = max(1, round(hours * 60))
    return f"{minutes // 60}:{minutes % 60:02}:00"
