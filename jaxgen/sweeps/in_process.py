"""Runs one run in this very process: in a task of Ray or Slurm, which is a process of its own."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from jaxgen.process import prepare_process
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps.leases import LeaseMonitor, acquire
from jaxgen.sweeps.status import RunStatus, refusal, status_of
from jaxgen.sweeps.sweep import Sweep
from jaxgen.sweeps.worker import job_of, log_file, run_job, terminate_with


def run_one(
    sweep: Sweep, config: RunConfig, folder: Path, retries: int, parent: int | None = None
) -> RunStatus:
    """Does one run, unless another process works on it; its output goes to its log.

    Args:
      sweep: the run's.
      config: the run.
      folder: of the sweep.
      retries: how often it is tried again if it fails.
      parent: the process without which this one saves its state and ends.

    Returns:
      The run's status in the end.
    """
    directory, monitor = RunDirectory(folder / config.name), LeaseMonitor()
    problem = refusal(config, directory)
    if problem is not None:
        return RunStatus("refused", problem)
    if parent is not None:
        threading.Thread(target=terminate_with, args=(parent,), daemon=True).start()
    prepare_process()
    for _ in range(1 + retries):
        status = status_of(sweep, config, directory, monitor)
        if status.state in ("finished", "stopped", "running"):
            return status
        lease = acquire(directory, status.newest)
        if lease is None:
            break
        with output_to(log_file(directory)):
            exit_status = run_job(job_of(sweep, config, folder), lease)
        if exit_status == 0:
            break
    return status_of(sweep, config, directory, monitor)


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Sends what this process prints to the end of a file."""
    kept = [(number, os.dup(number)) for number in (1, 2)]
    with open(path, "a") as log:
        _flush()
        for number, _ in kept:
            os.dup2(log.fileno(), number)
    try:
        yield
    finally:
        _flush()
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
