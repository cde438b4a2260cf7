"""A sweep from beginning to end: its runs, what became of them, its report."""

from __future__ import annotations

import collections
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxgen.runs.config import RunConfig
from jaxgen.studies.report import write_heading, write_report
from jaxgen.sweeps.attempts import PATIENCE_SECONDS
from jaxgen.sweeps.driving import Engine, drive
from jaxgen.sweeps.holding_out import divided, ensure_registered
from jaxgen.sweeps.standing import RunState
from jaxgen.sweeps.sweep import Sweep


def carry_out(
    sweep: Sweep,
    folder: Path,
    engine: Engine,
    retries: int = 1,
    patience_seconds: float = PATIENCE_SECONDS,
) -> int:
    """Drives a sweep, prints what did not finish, and writes report.html of what did.

    A rung that is held out is predicted, and the prediction registered, before its runs begin.

    Args:
      sweep: the runs.
      folder: of the sweep.
      engine: where they run.
      retries: of a run that fails.
      patience_seconds: how long another host's attempt may be silent.

    Returns:
      The exit status: 0 if every run finished or was given up by the sweep's own rule, else 1.

    Raises:
      StudyError: a prediction is to be made and runs that it rests on have not finished.
    """
    folder = folder.absolute()
    title = sweep.title or sweep.identity
    write_heading(folder, title, sweep.lead)
    print(f"{len(sweep.runs)} runs of {sweep.identity} in {folder}", flush=True)
    first, held_out = divided(sweep)
    found = drive(sweep, folder, engine, retries, patience_seconds, first)
    _tell(first, found)
    if held_out:
        told = ensure_registered(sweep, folder, [state.state == "finished" for state in found])
        print(told or "the prediction was registered before", flush=True)
        found += drive(sweep, folder, engine, retries, patience_seconds, held_out)
        _tell(held_out, found[len(first) :])
    by_name = dict(zip([run.name for run in (*first, *held_out)], found, strict=True))
    states = [by_name[run.name] for run in sweep.runs]
    counts = collections.Counter(state.state for state in states)
    print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    finished = [
        directory
        for directory, state in zip(sweep.directories(folder), states, strict=True)
        if state.state == "finished"
    ]
    if finished:
        path = write_report(finished, folder / "report.html", title, sweep.lead)
        print(f"\nreport: {path}")
    return 0 if counts.keys() <= {"finished", "stopped"} else 1


def _tell(runs: Sequence[RunConfig], states: Sequence[RunState]) -> None:
    """Prints what did not finish."""
    for config, state in zip(runs, states, strict=True):
        if state.state != "finished":
            print(f"{state.state}: {config.name}: {state.why}", file=sys.stderr)
