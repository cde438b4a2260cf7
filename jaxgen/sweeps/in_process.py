"""A run in this very process, which is its own: a task of Ray or Slurm."""

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
from jaxgen.sweeps.attempts import Observer
from jaxgen.sweeps.attempts import take as take_run
from jaxgen.sweeps.performing import end_with, log_file, perform, work_of
from jaxgen.sweeps.standing import RunState, refusal, standing
from jaxgen.sweeps.sweep import Sweep


def run_one(
    sweep: Sweep, config: RunConfig, folder: Path, retries: int, parent: int | None = None
) -> RunState:
    """Does one run, if nobody else is at it; its output goes to its log.

    Args:
      sweep: the run's.
      config: the run.
      folder: of the sweep.
      retries: if it fails.
      parent: the process without which this one saves its state and ends.

    Returns:
      How the run stands in the end.
    """
    directory, observer = RunDirectory(folder / config.name), Observer()
    problem = refusal(config, directory)
    if problem is not None:
        return RunState("refused", problem)
    if parent is not None:
        threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    prepare_process()
    for _ in range(1 + retries):
        state = standing(sweep, config, directory, observer)
        if state.state in ("finished", "stopped", "running"):
            return state
        attempt = take_run(directory, state.newest)
        if attempt is None:
            break
        with _printing_to(log_file(directory)):
            status = perform(work_of(sweep, config, folder), attempt)
        if status == 0:
            break
    return standing(sweep, config, directory, observer)


@contextlib.contextmanager
def _printing_to(path: Path) -> Iterator[None]:
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
