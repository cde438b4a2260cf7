"""The engine of several processes that train each run together, one run after another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from jaxgen import distributed
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps.in_process import output_to
from jaxgen.sweeps.leases import Outcome, acquire
from jaxgen.sweeps.sweep import Sweep
from jaxgen.sweeps.worker import job_of, log_file, run_job


class TogetherEngine:
    """Starts a run on all processes: the main one schedules, and tells the others which.

    The others call `follow`, which returns when the main process calls `close`.

    Args:
      sweep: the runs.
      folder: of the sweep; all processes share it.
    """

    def __init__(self, sweep: Sweep, folder: Path):
        self._sweep, self._folder = sweep, folder

    def has_room(self) -> bool:
        """Returns True: a run has ended when `start` returns."""
        return True

    def start(self, config: RunConfig, number: int) -> str | None:
        """Does the run with all processes; None if another process was faster.

        Raises:
          KeyboardInterrupt: if the run was asked to stop; its state is saved.
        """
        directory = RunDirectory(self._folder / config.name)
        lease = acquire(directory, number)
        if lease is None:
            return None
        name = distributed.on_main(lambda: config.name)
        with output_to(log_file(directory)):
            run_job(job_of(self._sweep, config, self._folder), lease)
        if lease.attempt.outcome == "interrupted":
            raise KeyboardInterrupt
        return name

    def has_ended(self, handle: str) -> bool:
        """Returns True."""
        return True

    def stop(self, handles: list[str]) -> None:
        """Does nothing: no run is at work between two calls of `start`."""

    def close(self) -> None:
        """Lets the others go; only the main process calls it."""
        distributed.on_main(lambda: None)

    def follow(self) -> None:
        """Takes part in the runs that the main process starts."""
        while (name := distributed.on_main(lambda: "")) is not None:
            config = next(run for run in self._sweep.runs if run.name == name)
            run_job(job_of(self._sweep, config, self._folder), _NoLease())


class _NoLease:
    """Stands in for the main process's lease on the others."""

    def release(self, outcome: Outcome, why: str = "") -> None:
        """Does nothing."""

    @contextlib.contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Does nothing."""
        yield
