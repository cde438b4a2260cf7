"""One attempt at one run, in the process that belongs to it."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from jaxgen.errors import (
    HopelessError,
    InterruptedTrainingError,
    JaxgenError,
    NotFiniteError,
)
from jaxgen.process import prepare_process
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps.attempts import Attempt
from jaxgen.sweeps.stopping import Judge, StopRule, same_rung
from jaxgen.sweeps.sweep import Sweep

LOCK_PATIENCE_SECONDS = 60.0
"""A run whose sweep was killed saves its state before it leaves the directory."""


@dataclasses.dataclass(frozen=True)
class Work:
    """A run to do; it can be sent to another process.

    Attributes:
      config: of the run.
      run_dir: its directory.
      after: called when it is finished.
      stop: when it is given up.
      peers: directories of the runs that it is compared with.
    """

    config: RunConfig
    run_dir: Path
    after: Callable[[RunDirectory], None] | None = None
    stop: StopRule | None = None
    peers: tuple[Path, ...] = ()


def work_of(sweep: Sweep, config: RunConfig, folder: Path) -> Work:
    """What a run of a sweep asks of its process."""
    peers = same_rung(sweep.runs, config) if sweep.stop and sweep.stop.margin is not None else []
    paths = tuple(folder / peer.name for peer in peers)
    return Work(config, folder / config.name, sweep.after, sweep.stop, paths)


def log_file(directory: RunDirectory) -> Path:
    """What the processes of a run printed."""
    return directory.path / "log.txt"


def perform(work: Work, attempt: Attempt) -> int:
    """Runs it and tells the attempt what became of it. Returns an exit status."""
    judges = [Judge(work.stop, [RunDirectory(p) for p in work.peers])] if work.stop else []
    with attempt.beating():
        try:
            finished = run(
                work.config,
                work.run_dir,
                watch=False,
                patience_seconds=LOCK_PATIENCE_SECONDS,
                more_trackers=judges,
            )
            if work.after is not None:
                work.after(finished.directory)
        except HopelessError as error:
            return _stop(work, attempt, error)
        except NotFiniteError as error:
            if work.stop is not None and work.stop.not_finite:
                return _stop(work, attempt, error)
            return _fail(attempt, error)
        except InterruptedTrainingError as error:
            print(f"interrupted: {error}", file=sys.stderr)
            attempt.end("interrupted", str(error))
            return 0
        except JaxgenError as error:
            return _fail(attempt, error)
        except Exception as error:
            traceback.print_exc()
            attempt.end("failed", f"{type(error).__name__}: {error}")
            return 1
        attempt.end("finished")
        return 0


def _fail(attempt: Attempt, error: JaxgenError) -> int:
    print(f"error: {error}", file=sys.stderr)
    attempt.end("failed", str(error))
    return 1


def _stop(work: Work, attempt: Attempt, error: JaxgenError) -> int:
    print(f"given up: {error}", file=sys.stderr)
    directory = RunDirectory(work.run_dir)
    directory.write_record(directory.read_record() | {"stopped": str(error)})
    attempt.end("stopped", str(error))
    return 0


def perform_alone(work: Work, attempt: Attempt, cores: list[int], parent: int) -> None:
    """The whole of a process: output goes to the run's log, threads to some cores.

    Args:
      work: the run.
      attempt: taken for it.
      cores: that it may use; empty: any.
      parent: the process without which it saves its state and ends.
    """
    with open(log_file(RunDirectory(work.run_dir)), "a") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    if cores:
        os.sched_setaffinity(0, cores)  # XLA makes as many threads as it sees cores.
    prepare_process()  # Before any thread: one that is older keeps an arena of its own.
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    sys.exit(perform(work, attempt))


def end_with(parent: int) -> None:
    """Asks this process to save and end when the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
