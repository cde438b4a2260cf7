"""A sweep from beginning to end: its runs, what became of them, its report."""

from __future__ import annotations

import collections
import sys
from pathlib import Path

from jaxgen.scaling.report import write_report
from jaxgen.scaling.sweeps.attempts import PATIENCE_SECONDS
from jaxgen.scaling.sweeps.driving import Engine, drive
from jaxgen.scaling.sweeps.sweep import Sweep


def carry_out(
    sweep: Sweep,
    folder: Path,
    engine: Engine,
    retries: int = 1,
    patience_seconds: float = PATIENCE_SECONDS,
) -> int:
    """Drives a sweep, prints what did not finish, and writes report.html of what did.

    Args:
      sweep: the runs.
      folder: of the sweep.
      engine: where they run.
      retries: of a run that fails.
      patience_seconds: how long another host's attempt may be silent.

    Returns:
      The exit status: 0 if every run finished or was given up by the sweep's own rule, else 1.
    """
    folder = folder.absolute()
    print(f"{len(sweep.runs)} runs of {sweep.identity} in {folder}", flush=True)
    states = drive(sweep, folder, engine, retries, patience_seconds)
    for config, state in zip(sweep.runs, states, strict=True):
        if state.state != "finished":
            print(f"{state.state}: {config.name}: {state.why}", file=sys.stderr)
    counts = collections.Counter(state.state for state in states)
    print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    finished = [
        directory
        for directory, state in zip(sweep.directories(folder), states, strict=True)
        if state.state == "finished"
    ]
    if finished:
        title = sweep.title or sweep.identity
        path = write_report(finished, folder / "report.html", title, sweep.lead)
        print(f"\nreport: {path}")
    return 0 if counts.keys() <= {"finished", "stopped"} else 1
