"""A job of Slurm: one srun over all nodes, queued again by itself until it has finished."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxgen.errors import RESTART_STATUS
from jaxgen.launch.job import LONG_SECONDS, Job
from jaxgen.slurm import time_limit


@dataclasses.dataclass(frozen=True)
class SlurmJob:
    """The resources of a job.

    Attributes:
      job: what is run.
      nodes: how many.
      processes_per_node: of the program; one that owns all GPUs of its node by default.
      gpus_per_node: 0 asks for none.
      cpus_per_process: cores.
      hours: the time limit of one start.
      logs: the folder of the output; all nodes share it, as they do the present one.
      options: lines for sbatch, such as "--partition=long".
    """

    job: Job
    nodes: int
    processes_per_node: int = 1
    gpus_per_node: int = 0
    cpus_per_process: int = 1
    hours: float = 24.0
    logs: Path = Path("logs")
    options: Sequence[str] = ()

    def script(self) -> str:
        """Returns the sbatch script, which runs in the present folder."""
        job, logs = self.job, self.logs.absolute()
        settings = [
            f"--job-name={job.name}",
            f"--nodes={self.nodes}",
            f"--ntasks-per-node={self.processes_per_node}",
            f"--cpus-per-task={self.cpus_per_process}",
            f"--time={time_limit(self.hours)}",
            f"--output={logs}/{job.name}-%j.log",
            "--open-mode=append",
            # Every process hears that the time is nearly over, and saves its state.
            f"--signal=TERM@{job.grace_seconds}",
            "--requeue",
        ]
        if self.gpus_per_node:
            settings.append(f"--gpus-per-node={self.gpus_per_node}")
        settings += self.options  # Last, because sbatch takes the last of two.
        exports = [f"export {name}={shlex.quote(value)}" for name, value in job.environment]
        command = shlex.join([sys.executable, *job.words[1:]])
        return "\n".join(
            [
                "#!/bin/bash",
                *(f"#SBATCH {setting}" for setting in settings),
                "set -u",
                f"cd {shlex.quote(str(Path.cwd()))}",
                *exports,
                "began=$(date +%s)",
                f"srun --kill-on-bad-exit=1 --label {command}",
                "status=$?",
                'if [ "$status" -eq 0 ]; then exit 0; fi',
                # A start that asks for another one is no failure, unless it asks at once.
                "lasted=$(($(date +%s) - began))",
                f"failures={shlex.quote(f'{logs}/{job.name}-')}$SLURM_JOB_ID.failures",
                f'if [ "$status" -ne {RESTART_STATUS} ] || [ "$lasted" -lt {LONG_SECONDS} ]; then',
                '  echo "$status" >> "$failures"',
                "fi",
                f'if [ ! -e "$failures" ] || [ "$(wc -l < "$failures")" -le {job.retries} ]; then',
                '  echo "status $status after $lasted s: queued again"',
                '  scontrol requeue "$SLURM_JOB_ID"',
                "fi",
                'exit "$status"',
                "",
            ]
        )
