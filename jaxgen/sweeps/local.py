"""Runs in processes of this machine, each with its share of the cores."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from pathlib import Path
from typing import Any

from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps.attempts import Attempt, take
from jaxgen.sweeps.performing import log_file, perform_alone, work_of
from jaxgen.sweeps.sweep import Sweep


@dataclasses.dataclass
class _Child:
    process: Any
    attempt: Attempt
    cores: list[int]
    directory: RunDirectory


class LocalEngine:
    """Spawned processes, as a fork would copy threads' locks.

    Args:
      sweep: whose runs they are.
      folder: of the sweep.
      jobs: runs at a time; one for each core by default.
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
        """Whether a process more may begin."""
        return bool(self._slots)

    def start(self, config: RunConfig, number: int) -> _Child | None:
        """Takes the run, if nobody has made attempt `number` + 1, and begins."""
        work = work_of(self._sweep, config, self._folder)
        directory = RunDirectory(work.run_dir)
        attempt = take(directory, number)
        if attempt is None:
            return None
        cores = self._slots.pop(0)
        arguments = (work, attempt, cores, os.getpid())
        process = self._context.Process(target=perform_alone, args=arguments, name=config.name)
        process.start()
        return _Child(process, attempt, cores, directory)

    def has_ended(self, handle: _Child) -> bool:
        """Whether it has; one that died without a word has failed."""
        if handle.process.exitcode is None:
            return False
        self._slots.append(handle.cores)
        if not handle.attempt.has_ended():
            handle.attempt.end("failed", _last_words(handle.process.exitcode, handle.directory))
        return True

    def stop(self, handles: list[_Child]) -> None:
        """Lets every process save its state, and waits for it."""
        for handle in handles:
            handle.process.terminate()
        for handle in handles:
            handle.process.join()
            if not handle.attempt.has_ended():  # Before it could train.
                handle.attempt.end("interrupted")


def _last_words(exitcode: int, directory: RunDirectory) -> str:
    log = log_file(directory)
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    how = f"killed by signal {-exitcode}" if exitcode < 0 else f"exit status {exitcode}"
    return f"{last} ({how}; all of it: {log})"
