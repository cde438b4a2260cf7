"""The local engine: each run in a process of this machine, with its share of the cores."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from pathlib import Path
from typing import Any

from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps.leases import Lease, acquire
from jaxgen.sweeps.sweep import Sweep
from jaxgen.sweeps.worker import job_of, log_file, worker_main


@dataclasses.dataclass
class _Child:
    process: Any
    lease: Lease
    cores: list[int]
    directory: RunDirectory


class LocalEngine:
    """Starts runs as spawned processes; a fork would copy threads' locks.

    Args:
      sweep: the runs.
      folder: of the sweep.
      jobs: how many run at a time; one for each core by default.
    """

    def __init__(self, sweep: Sweep, folder: Path, jobs: int | None = None):
        if jobs is not None and jobs < 1:
            raise ConfigError(f"--jobs={jobs} must be positive.")
        affinity = getattr(os, "sched_getaffinity", None)
        cores = sorted(affinity(0)) if affinity else []
        jobs = min(jobs or len(cores) or 1, len(sweep.runs))
        self._sweep, self._folder = sweep, folder
        self._slots = [cores[slot::jobs] for slot in range(jobs)]
        self._context = multiprocessing.get_context("spawn")

    def has_room(self) -> bool:
        """Returns whether one more process may start."""
        return bool(self._slots)

    def start(self, config: RunConfig, number: int) -> _Child | None:
        """Starts the run if its lease can be acquired; None if another process was faster."""
        job = job_of(self._sweep, config, self._folder)
        directory = RunDirectory(job.run_dir)
        lease = acquire(directory, number)
        if lease is None:
            return None
        cores = self._slots.pop(0)
        arguments = (job, lease, cores, os.getpid())
        process = self._context.Process(target=worker_main, args=arguments, name=config.name)
        process.start()
        return _Child(process, lease, cores, directory)

    def has_ended(self, handle: _Child) -> bool:
        """Returns whether it has; a process that died without an outcome has failed."""
        if handle.process.exitcode is None:
            return False
        self._slots.append(handle.cores)
        if not handle.lease.is_released():
            handle.lease.release("failed", _last_output(handle.process.exitcode, handle.directory))
        return True

    def stop(self, handles: list[_Child]) -> None:
        """Asks every process to save its state, and waits for it."""
        for handle in handles:
            handle.process.terminate()
        for handle in handles:
            handle.process.join()
            if not handle.lease.is_released():  # Before it could train.
                handle.lease.release("interrupted")


def _last_output(exitcode: int, directory: RunDirectory) -> str:
    log = log_file(directory)
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    how = f"killed by signal {-exitcode}" if exitcode < 0 else f"exit status {exitcode}"
    return f"{last} ({how}; the whole log: {log})"
