"""The scheduler: runs a sweep on an engine, beside others that may work on the same folder."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from jaxgen.runs.config import RunConfig
from jaxgen.runs.costs import cost_of
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps.dependencies import dependencies
from jaxgen.sweeps.leases import TIMEOUT_SECONDS, LeaseMonitor
from jaxgen.sweeps.progress import ProgressDisplay, TrackedRun, progress_display
from jaxgen.sweeps.status import RunStatus, refusal, status_of
from jaxgen.sweeps.sweep import Sweep

POLL_SECONDS = 0.5
REFRESH_SECONDS = 2.0
"""How often the status of runs that others work on is read."""
MAX_LOST_LEASES = 10
"""How many attempts may die without an outcome (their machine went away) before a run has failed.
"""


class Engine(Protocol):
    """Starts runs, as processes of this machine or on a cluster."""

    def has_room(self) -> bool:
        """Returns whether one more run may start now."""
        ...

    def start(self, config: RunConfig, number: int) -> Any | None:
        """Starts attempt `number` + 1 at a run; None if another process was faster."""
        ...

    def has_ended(self, handle: Any) -> bool:
        """Returns whether the run that `start` returned a handle of has ended; true once."""
        ...

    def stop(self, handles: list[Any]) -> None:
        """Lets the runs save their state and end."""
        ...


@dataclasses.dataclass
class _Entry:
    config: RunConfig
    directory: RunDirectory
    status: RunStatus
    first: int  # The newest attempt that had ended before this session.
    is_done: bool = False
    parents: tuple[_Entry, ...] = ()  # The runs that it depends on.
    handle: Any = None
    refreshed: float = 0.0


def run_all(
    sweep: Sweep,
    folder: Path,
    engine: Engine,
    retries: int = 1,
    lease_timeout: float = TIMEOUT_SECONDS,
    runs: Sequence[RunConfig] | None = None,
) -> list[RunStatus]:
    """Works until every run has finished, failed or stopped early, here or elsewhere.

    Args:
      sweep: the runs.
      folder: of the sweep, shared with all others that work on it.
      engine: where runs start.
      retries: how often a run that failed in this session is tried again.
      lease_timeout: how many seconds another host may go without a heartbeat.
      runs: a part of the sweep's runs; all by default.

    Returns:
      The status of each run, in order.

    Raises:
      KeyboardInterrupt: when asked to stop, after every run has saved its state.
    """
    monitor = LeaseMonitor(lease_timeout)
    entries = [_entry(sweep, config, folder, monitor) for config in runs or sweep.runs]
    by_name = {entry.config.name: entry for entry in entries}
    parents = dependencies([entry.config for entry in entries], folder, sweep.branches)
    for name, names in parents.items():
        by_name[name].parents = tuple(by_name[one] for one in names)
    pending = [entry for entry in entries if not entry.is_done]
    tracked = [_tracked(entry) for entry in entries]
    with progress_display(tracked) as display, _stop_on_error(engine, entries):
        while pending:
            for entry in pending:
                if entry.handle is not None and engine.has_ended(entry.handle):
                    entry.handle, entry.refreshed = None, 0.0
                if entry.handle is None and _is_stale(entry):
                    entry.status = status_of(sweep, entry.config, entry.directory, monitor)
                    entry.refreshed = time.monotonic()
            for entry in pending:
                entry.is_done = _is_done(entry, retries)
            pending = [entry for entry in pending if not entry.is_done]
            for entry in pending:
                if _may_start(entry) and engine.has_room():
                    entry.handle = engine.start(entry.config, entry.status.newest)
                    entry.refreshed = 0.0
            _show(display, entries)
            if pending:
                time.sleep(POLL_SECONDS)
    return [entry.status for entry in entries]


def _entry(sweep: Sweep, config: RunConfig, folder: Path, monitor: LeaseMonitor) -> _Entry:
    directory = RunDirectory(folder / config.name)
    problem = refusal(config, directory)
    status = status_of(sweep, config, directory, monitor)
    if problem is not None:
        status = dataclasses.replace(status, state="refused", why=problem)
    first = status.newest - (status.state == "running")
    return _Entry(config, directory, status, first, status.state in ("finished", "refused"))


def _is_stale(entry: _Entry) -> bool:
    return time.monotonic() - entry.refreshed >= REFRESH_SECONDS


def _may_start(entry: _Entry) -> bool:
    is_free = all(parent.status.state == "finished" for parent in entry.parents)
    return is_free and entry.handle is None and entry.status.state != "running"


def _is_done(entry: _Entry, retries: int) -> bool:
    if entry.handle is not None:
        return False
    if entry.status.state in ("finished", "stopped"):
        return True
    if entry.status.state == "running":
        return False
    stopped = [one for one in entry.parents if one.is_done and one.status.state != "finished"]
    if stopped:
        why = f"the run {stopped[0].config.name}, which it depends on, did not finish"
        entry.status = dataclasses.replace(entry.status, state="refused", why=why)
        return True
    new = [attempt for attempt in entry.status.attempts if attempt.number > entry.first]
    lost = sum(attempt.outcome is None for attempt in new)
    if lost > MAX_LOST_LEASES:
        why = f"its workers died {lost} times without an error; are machines out of memory?"
        entry.status = dataclasses.replace(entry.status, state="failed", why=why)
        return True
    return sum(attempt.outcome == "failed" for attempt in new) > retries


def _tracked(entry: _Entry) -> TrackedRun:
    cost = cost_of(entry.config)
    return TrackedRun(entry.config.name, entry.directory, cost.steps, cost.flops)


def _show(display: ProgressDisplay, entries: Sequence[_Entry]) -> None:
    def in_state(*states: str) -> set[Path]:
        return {entry.directory.path for entry in entries if entry.status.state in states}

    at_work = {entry.directory.path for entry in entries if entry.handle is not None}
    display.show(
        running=at_work | in_state("running"),
        failed=in_state("failed", "refused") - at_work,
        stopped=in_state("stopped"),
    )


@contextlib.contextmanager
def _stop_on_error(engine: Engine, entries: Sequence[_Entry]) -> Iterator[None]:
    """Lets every run save its state before an error or interrupt leaves the block."""
    try:
        yield
    except BaseException:
        handles = [entry.handle for entry in entries if entry.handle is not None]
        if handles:
            print(f"\nstopping: {len(handles)} run(s) are saving their state ...", flush=True)
        engine.stop(handles)
        raise
