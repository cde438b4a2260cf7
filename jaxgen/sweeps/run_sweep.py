"""Runs a sweep from beginning to end: its runs, its predictions, its report."""

from __future__ import annotations

import collections
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxgen.runs.config import RunConfig
from jaxgen.studies.report import write_heading, write_report
from jaxgen.sweeps.leases import TIMEOUT_SECONDS
from jaxgen.sweeps.preregistration import ensure_registered, split_held_out
from jaxgen.sweeps.scheduler import Engine, run_all
from jaxgen.sweeps.status import RunStatus
from jaxgen.sweeps.sweep import Sweep


def run_sweep(
    sweep: Sweep,
    folder: Path,
    engine: Engine,
    retries: int = 1,
    lease_timeout: float = TIMEOUT_SECONDS,
) -> int:
    """Runs a sweep, prints which runs did not finish, and writes report.html on the finished ones.

    A held-out rung is predicted, and the prediction registered, before its runs begin.

    Args:
      sweep: the runs.
      folder: of the sweep.
      engine: where they run.
      retries: how often a run that fails is tried again.
      lease_timeout: how many seconds another host may go without a heartbeat.

    Returns:
      The exit status: 0 if every run finished or stopped early, else 1.

    Raises:
      StudyError: a prediction is due and runs that it is fitted to have not finished.
    """
    folder = folder.absolute()
    title = sweep.title or sweep.identity
    write_heading(folder, title, sweep.lead)
    print(f"{len(sweep.runs)} runs of {sweep.identity} in {folder}", flush=True)
    fitted, held_out = split_held_out(sweep)
    found = run_all(sweep, folder, engine, retries, lease_timeout, fitted)
    _print_unfinished(fitted, found)
    if held_out:
        message = ensure_registered(sweep, folder, [status.state == "finished" for status in found])
        print(message or "the prediction is already registered", flush=True)
        found += run_all(sweep, folder, engine, retries, lease_timeout, held_out)
        _print_unfinished(held_out, found[len(fitted) :])
    by_name = dict(zip([run.name for run in (*fitted, *held_out)], found, strict=True))
    states = [by_name[run.name].state for run in sweep.runs]
    counts = collections.Counter(states)
    print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    finished = [
        directory
        for run, directory, state in zip(sweep.runs, sweep.directories(folder), states, strict=True)
        if state == "finished" and run.name not in sweep.branches.values()
    ]
    if finished:
        path = write_report(finished, folder / "report.html", title, sweep.lead)
        print(f"\nreport: {path}")
    return 0 if counts.keys() <= {"finished", "stopped"} else 1


def _print_unfinished(runs: Sequence[RunConfig], statuses: Sequence[RunStatus]) -> None:
    for config, status in zip(runs, statuses, strict=True):
        if status.state != "finished":
            print(f"{status.state}: {config.name}: {status.why}", file=sys.stderr)
