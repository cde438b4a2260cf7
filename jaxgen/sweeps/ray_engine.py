"""The Ray engine: runs are tasks on a cluster whose nodes share the sweep's folder and file."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jaxgen
from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps.leases import acquire, read_attempts
from jaxgen.sweeps.slurm import one_run_arguments
from jaxgen.sweeps.sweep import Sweep

STOP_SECONDS = 60.0


@dataclasses.dataclass
class _Task:
    reference: Any
    directory: RunDirectory
    number: int


class RayEngine:
    """Starts each run as a task with a process of its own, the same as a Slurm array's.

    The process acquires the lease when it begins, so runs that wait in Ray's queue are free for
    others. A node that dies takes its tasks with it; their runs are then started again.

    Args:
      sweep: the runs.
      file: that declares it, on every node.
      folder: of the sweep, on every node.
      address: of the cluster: "auto" or "host:port"; None starts one on this machine.
      jobs: how many run at a time; as many as the cluster has cores for by default.

    Raises:
      ConfigError: Ray is not installed, or there is no cluster.
    """

    def __init__(
        self, sweep: Sweep, file: Path, folder: Path, address: str | None, jobs: int | None = None
    ):
        try:
            import ray
        except ImportError as error:
            raise ConfigError(
                '--engine=ray needs Ray; install it with: pip install "jaxgen[ray]".'
            ) from error
        try:
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
        except ConnectionError as error:
            raise ConfigError(
                f"no Ray cluster at --address={address}: {error}. Start one with `ray start "
                "--head`, or leave --address out to use this machine alone."
            ) from error
        self._ray, self._file, self._folder, self._jobs = ray, file, folder, jobs
        needs, gigabytes = sweep.resources, sweep.resources.memory_gigabytes
        self._cpus = needs.cpus
        # Only the scheduler retries: it knows of attempts that others made.
        options: dict[str, Any] = {"num_cpus": needs.cpus, "num_gpus": needs.gpus}
        if gigabytes is not None:
            options["memory"] = int(gigabytes * 1e9)
        self._function = ray.remote(max_retries=0, **options)(_run_process)
        self._running = 0

    def has_room(self) -> bool:
        """Returns whether the cluster, which may have grown, has cores for one more run."""
        cores = self._ray.cluster_resources().get("CPU", 0)
        return self._running < (self._jobs or max(1, int(cores // max(self._cpus, 1))))

    def start(self, config: RunConfig, number: int) -> _Task:
        """Submits the run to the cluster."""
        arguments = one_run_arguments(self._file, self._folder, config.name, retries=0)
        root = str(Path(jaxgen.__file__).parents[1])
        self._running += 1
        directory = RunDirectory(self._folder / config.name)
        return _Task(self._function.remote(arguments, root), directory, number)

    def has_ended(self, handle: _Task) -> bool:
        """Returns whether it has; a run whose process could not even start has failed."""
        done, _ = self._ray.wait([handle.reference], num_returns=1, timeout=0)
        if not done:
            return False
        self._running -= 1
        try:
            status, output = self._ray.get(handle.reference)
        except self._ray.exceptions.RayTaskError as error:
            status, output = 1, str(error.cause or error)
        except self._ray.exceptions.RayError:  # The node or the worker died: no fault of the run.
            time.sleep(1)  # Ray may not have noticed yet and would give it the next task.
            return True
        self._record_failure(handle, status, output)
        return True

    def _record_failure(self, task: _Task, status: int, output: str) -> None:
        """Records a failure that the run's process could not record itself."""
        attempts = read_attempts(task.directory)
        new = [attempt for attempt in attempts if attempt.number > task.number]
        if status == 0 or any(attempt.outcome is not None for attempt in new):
            return
        lease = acquire(task.directory, new[-1].number if new else task.number)
        if lease is not None:
            lease.release("failed", f"{output} (exit status {status})")

    def stop(self, handles: list[_Task]) -> None:
        """Asks every task to save its state and end, and waits for it."""
        for handle in handles:
            self._ray.cancel(handle.reference)
        references = [handle.reference for handle in handles]
        if references:
            self._ray.wait(references, num_returns=len(references), timeout=STOP_SECONDS)


def _run_process(arguments: list[str], root: str) -> tuple[int, str]:
    """Returns exit status and last line of a run's process, which ends when this one does."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [root if Path(root).exists() else "", os.environ.get("PYTHONPATH", "")])
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxgen", *arguments, f"--parent={os.getpid()}"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, errors = process.communicate()
    except KeyboardInterrupt:  # Cancelled.
        process.terminate()
        _, errors = process.communicate()
    lines = [line for line in errors.splitlines() if line.strip()]
    return process.returncode, lines[-1] if lines else "no output"
