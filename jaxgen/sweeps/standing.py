"""How the runs of a sweep stand, read from their directories."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxgen.configuration import difference, fingerprint, load_text, to_gin
from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps.attempts import Observer, Record, history
from jaxgen.sweeps.sweep import Sweep

State = Literal["new", "begun", "running", "finished", "stopped", "failed", "refused"]


@dataclasses.dataclass(frozen=True)
class RunState:
    """A run as it stands.

    Attributes:
      state: "begun" is at work nowhere and will go on; "refused" has another configuration on disk,
        or begins with the parameters of a run that did not finish.
      why: the error, reason or difference; "" if there is none.
      attempts: at it, oldest first.
    """

    state: State
    why: str = ""
    attempts: tuple[Record, ...] = ()

    @property
    def newest(self) -> int:
        """The number of the newest attempt, 0 before the first."""
        return self.attempts[-1].number if self.attempts else 0


def standing(
    sweep: Sweep, config: RunConfig, directory: RunDirectory, observer: Observer
) -> RunState:
    """How a run stands; its configuration is not compared (see `refusal`)."""
    attempts = tuple(history(directory))
    last = attempts[-1] if attempts else None
    if last is not None and observer.is_alive(directory, last):
        return RunState("running", f"on {last.machine}", attempts)
    outcome = last.outcome if last is not None else None
    if directory.is_finished() and (sweep.after is None or outcome == "finished"):
        return RunState("finished", "", attempts)
    if last is None:
        return RunState("begun" if directory.run_file.exists() else "new")
    if outcome == "stopped" and sweep.stop is not None:
        return RunState("stopped", last.why, attempts)
    if outcome == "failed":
        return RunState("failed", last.why, attempts)
    return RunState("begun", last.why, attempts)


def refusal(config: RunConfig, directory: RunDirectory) -> str | None:
    """What differs between a run and the one in its directory; None if it may go on."""
    if not directory.config_file.exists():
        return None
    recorded = directory.config_file.read_text()
    if recorded == to_gin(config):
        return None
    try:
        lines = difference(load_text(recorded, source=str(directory.config_file)), config)
    except ConfigError as error:
        lines = [str(error)]
    if not lines:
        return None
    shown = "; ".join(lines[:5]) + (f"; and {len(lines) - 5} more" if len(lines) > 5 else "")
    return (
        f"{directory.path} holds another run than {config.name}@{config.version} "
        f"{fingerprint(config)}: {shown}. Raise the sweep's version, or give it another --run_dir."
    )
