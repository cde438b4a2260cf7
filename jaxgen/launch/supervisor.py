"""Decides, when processes of a run have failed, whether they are started again, and when."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgen.errors import RESTART_STATUS, CheckpointError
from jaxgen.runs.events import append_event
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.training.heartbeat import read_heartbeats

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 300.0
STUCK_GRACE_SECONDS = 10.0
"""How much later than a process's own watchdog one is found stuck from outside: only one that is
suspended, or whose threads do not run, has not ended by then."""
OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that others send, so that the same one again shows no fault of the program."""


@dataclasses.dataclass(frozen=True)
class Restart:
    """A start after a failure.

    Attributes:
      number: 1 for the first since the start, or since there was a new checkpoint.
      step: of the checkpoint that it goes on from; 0 if there is none.
      process: that failed.
      reason: why, in words.
      wait_seconds: before it.
    """

    number: int
    step: int
    process: int
    reason: str
    wait_seconds: float


class Supervisor:
    """Counts the failures of a run, and tells a crash loop from progress.

    Args:
      restarts: starts again at most without a new checkpoint in between.
      run_dir: of the run; None: nothing is known of it but how its processes end.
    """

    def __init__(self, restarts: int, run_dir: Path | None):
        self._restarts = restarts
        self._directory = None if run_dir is None else RunDirectory(run_dir)
        self._number = 0
        self._saved = self._newest_checkpoint()
        self._crash: tuple[int, str] | None = None
        self._asked = 0.0
        self._silent: dict[int, tuple[float, float]] = {}

    def stuck(self, process_ids: Sequence[int]) -> list[int]:
        """Returns which processes do not get on and have not ended themselves.

        Looks once a second, and only if what is stuck may be started again. For how long a
        heartbeat has been the same is told by this process's own clock, as the machine's may be
        set, and forward too.
        """
        now = time.monotonic()
        if self._restarts == 0 or now - self._asked < 1.0:
            return []
        self._asked = now
        beats = [beat for beat in self._heartbeats() if beat["process_id"] in process_ids]
        told, self._silent = self._silent, {}
        for beat in beats:
            before, since = told.get(beat["process_id"], (None, now))
            self._silent[beat["process_id"]] = (
                beat["time"], since if before == beat["time"] else now
            )  # fmt: skip
        return [
            process_ids.index(beat["process_id"])
            for beat in beats
            if beat["limit"] is not None
            and now - self._silent[beat["process_id"]][1] > beat["limit"] + STUCK_GRACE_SECONDS
        ]

    def next_restart(self, process: int, process_id: int, status: int) -> Restart | None:
        """Returns the next start after a failure, or None: there is none, and why is printed.

        Args:
          process: that failed.
          process_id: of it.
          status: that it ended with, negative for a signal.
        """
        if self._restarts == 0:
            return None
        beats = [beat for beat in self._heartbeats() if beat["process_id"] == process_id]
        saved = self._newest_checkpoint()
        if saved > self._saved:
            self._number, self._saved = 0, saved
        self._number += 1
        reason, step = _reason(status, beats), beats[0]["step"] if beats else saved
        if status == RESTART_STATUS or -status in OUTSIDE:
            self._crash = None
        elif self._crash == (step, reason):
            _say(f"process {process} failed twice at step {step} in the same way: {reason}")
            return None
        else:
            self._crash = (step, reason)
        if self._number > self._restarts:
            _say(f"process {process}: {reason}; no checkpoint after {self._restarts} restart(s)")
            return None
        wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (self._number - 1))
        restart = Restart(self._number, saved, process, reason, wait)
        _say(
            f"process {process}: {reason}; restart {self._number} of {self._restarts} from step "
            f"{saved} in {wait:g} s"
        )
        self._note(restart)
        return restart

    def _note(self, restart: Restart) -> None:
        if self._directory is None or not self._directory.history_file.exists():
            return
        event = {"event": "restart"} | dataclasses.asdict(restart)
        try:
            append_event(self._directory.history_file, event)
        except CheckpointError as error:  # A full disk, which may be why there is a restart.
            _say(str(error))

    def _newest_checkpoint(self) -> int:
        return 0 if self._directory is None else max(self._directory.saved_steps(), default=0)

    def _heartbeats(self) -> list[dict[str, Any]]:
        return [] if self._directory is None else read_heartbeats(self._directory.path)


def _reason(status: int, beats: Sequence[dict[str, Any]]) -> str:
    if status < 0:
        return signal.Signals(-status).name
    if beats and beats[0]["error"]:
        return beats[0]["error"]
    return f"exit status {status}"


def _say(text: str) -> None:
    print(f"supervisor: {text}", file=sys.stderr, flush=True)
