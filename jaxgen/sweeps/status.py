"""The status of a sweep's runs, read from their directories."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxgen.configuration import difference, fingerprint, load_recorded, to_gin
from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps.leases import Attempt, LeaseMonitor, read_attempts
from jaxgen.sweeps.sweep import Sweep

State = Literal["new", "begun", "running", "finished", "stopped", "failed", "refused"]


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """The status of a run.

    Attributes:
      state: "begun" is unfinished, at work nowhere, and can continue; "stopped" ended by early
        stopping; "refused" has another configuration on disk, or depends on a run that did not
        finish.
      why: the error, reason or difference; "" if there is none.
      attempts: the attempts at it, oldest first.
    """

    state: State
    why: str = ""
    attempts: tuple[Attempt, ...] = ()

    @property
    def newest(self) -> int:
        """Returns the number of the newest attempt, 0 before the first."""
        return self.attempts[-1].number if self.attempts else 0

    @property
    def is_open(self) -> bool:
        """Returns whether there is work left."""
        return self.state not in ("finished", "stopped", "refused")


def status_of(
    sweep: Sweep, config: RunConfig, directory: RunDirectory, monitor: LeaseMonitor
) -> RunStatus:
    """Returns the status of a run, without comparing its configuration (see `refusal`)."""
    attempts = tuple(read_attempts(directory))
    last = attempts[-1] if attempts else None
    if last is not None and monitor.is_alive(directory, last):
        return RunStatus("running", f"on {last.machine}", attempts)
    outcome = last.outcome if last is not None else None
    if directory.is_finished() and (sweep.after is None or outcome == "finished"):
        return RunStatus("finished", "", attempts)
    if last is None:
        return RunStatus("begun" if directory.run_file.exists() else "new")
    if outcome == "stopped" and sweep.early_stopping is not None:
        return RunStatus("stopped", last.why, attempts)
    if outcome == "failed":
        return RunStatus("failed", last.why, attempts)
    return RunStatus("begun", last.why, attempts)


def refusal(config: RunConfig, directory: RunDirectory) -> str | None:
    """Returns how a run differs from the one in its directory; None if it may continue there."""
    if not directory.config_file.exists():
        return None
    recorded = directory.config_file.read_text(encoding="utf-8", errors="replace")
    if recorded == to_gin(config):
        return None
    try:
        lines = difference(load_recorded(directory.config_file), config)
    except ConfigError as error:
        lines = [str(error)]
    if not lines:
        return None
    shown = "; ".join(lines[:5]) + (f"; and {len(lines) - 5} more" if len(lines) > 5 else "")
    return (
        f"{directory.path} holds another run than {config.name}@{config.version} "
        f"{fingerprint(config)}: {shown}. Raise the sweep's version, or give it another --run_dir."
    )
