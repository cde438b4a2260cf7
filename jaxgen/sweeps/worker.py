"""The worker: one attempt at one run, in the process that belongs to it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from jaxgen.diagnostics.cooldown import branch_off, keep_branching_points
from jaxgen.distributed import leave, on_main
from jaxgen.errors import (
    EarlyStoppingError,
    InterruptedTrainingError,
    JaxgenError,
    NotFiniteError,
)
from jaxgen.process import prepare_process
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run import RunRecord, run
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps.early_stopping import EarlyStopping, EarlyStoppingTracker, comparable_runs
from jaxgen.sweeps.leases import Outcome
from jaxgen.sweeps.sweep import Sweep
from jaxgen.training.execution import ExecutionConfig

LOCK_WAIT_SECONDS = 60.0
"""A run whose sweep was killed saves its state before it leaves the directory."""


class Held(Protocol):
    """A lease that is held for an attempt, such as `leases.Lease`."""

    def release(self, outcome: Outcome, why: str = "") -> None:
        """Records how the attempt ended."""
        ...

    def heartbeat(self) -> contextlib.AbstractContextManager[None]:
        """Says that the process is alive, while it is entered."""
        ...


@dataclasses.dataclass(frozen=True)
class Job:
    """One run with all that its worker needs to know; it can be sent to another process.

    Attributes:
      config: of the run.
      run_dir: its directory.
      execution: how it is executed.
      after: called when the run has finished.
      early_stopping: when it stops early.
      peers: directories of the runs that it is compared with.
      trunk: directory of the run whose checkpoint it continues from; None: it has no trunk.
      is_trunk: whether other runs continue from its checkpoints.
    """

    config: RunConfig
    run_dir: Path
    execution: ExecutionConfig = ExecutionConfig()
    after: Callable[[RunDirectory], None] | None = None
    early_stopping: EarlyStopping | None = None
    peers: tuple[Path, ...] = ()
    trunk: Path | None = None
    is_trunk: bool = False


def job_of(sweep: Sweep, config: RunConfig, folder: Path) -> Job:
    """Returns the job of a run of a sweep."""
    rule = sweep.early_stopping
    peers = comparable_runs(sweep.runs, config) if rule and rule.margin is not None else []
    paths = tuple(folder / peer.name for peer in peers)
    trunk, branches = sweep.branches.get(config.name), sweep.branches_of(config.name)
    execution = sweep.execution
    if execution.mirror is not None:
        mirror = f"{execution.mirror.rstrip('/')}/{config.name}"
        execution = dataclasses.replace(execution, mirror=mirror)
    return Job(
        config,
        folder / config.name,
        keep_branching_points(execution, branches) if branches else execution,
        sweep.after,
        rule,
        paths,
        None if trunk is None else folder / trunk,
        bool(branches),
    )


def log_file(directory: RunDirectory) -> Path:
    """Returns the file of what the workers of a run print."""
    return directory.path / "log.txt"


def run_job(job: Job, lease: Held) -> int:
    """Trains the run and records the outcome in its lease. Returns an exit status."""
    rule, peers = job.early_stopping, [RunDirectory(peer) for peer in job.peers]
    trackers = [EarlyStoppingTracker(rule, peers)] if rule else []
    with lease.heartbeat():
        try:
            if job.trunk is not None:
                on_main(branch_off, job.trunk, job.config, job.run_dir)
            finished = run(
                job.config,
                job.run_dir,
                job.execution,
                show_progress=False,
                lock_timeout=LOCK_WAIT_SECONDS,
                more_trackers=trackers,
            )
            on_main(_finish, job, finished)
        except EarlyStoppingError as error:
            return _stop(job, lease, error)
        except NotFiniteError as error:
            if rule is not None and rule.not_finite:
                return _stop(job, lease, error)
            return _fail(lease, error)
        except InterruptedTrainingError as error:
            print(f"interrupted: {error}", file=sys.stderr)
            lease.release("interrupted", str(error))
            return 0
        except JaxgenError as error:
            return leave(_fail(lease, error), error)
        except Exception as error:
            traceback.print_exc()
            lease.release("failed", f"{type(error).__name__}: {error}")
            return leave(1, error)
        lease.release("finished")
        return 0


def _finish(job: Job, finished: RunRecord) -> None:
    if job.is_trunk:
        finished.directory.write_record(finished.record | {"is_trunk": True})
    if job.after is not None:
        job.after(finished.directory)


def _fail(lease: Held, error: JaxgenError) -> int:
    print(f"error: {error}", file=sys.stderr)
    lease.release("failed", str(error))
    return 1


def _stop(job: Job, lease: Held, error: JaxgenError) -> int:
    print(f"stopped early: {error}", file=sys.stderr)
    directory = RunDirectory(job.run_dir)
    on_main(lambda: directory.write_record(directory.read_record() | {"stopped": str(error)}))
    lease.release("stopped", str(error))
    return 0


def worker_main(job: Job, lease: Held, cores: list[int], parent: int) -> None:
    """Runs a job in a worker's process, with output to the run's log and threads on some cores.

    Args:
      job: the run.
      lease: acquired for it.
      cores: those it may use; empty: any.
      parent: the process without which it saves its state and ends.
    """
    with open(log_file(RunDirectory(job.run_dir)), "a") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    if cores:
        os.sched_setaffinity(0, cores)  # XLA makes as many threads as it sees cores.
    prepare_process()  # Before any thread: one that is older keeps an arena of its own.
    threading.Thread(target=terminate_with, args=(parent,), daemon=True).start()
    sys.exit(run_job(job, lease))


def terminate_with(parent: int) -> None:
    """Waits for the parent process to end, then asks this one to save its state and end."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
