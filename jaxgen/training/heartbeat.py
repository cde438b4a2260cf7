"""Heartbeats: a small file says how far a process is, and a watchdog ends one that is stuck.

heartbeats/0.json       of process 0: when it last got on, at what step and in what phase
heartbeats/0.stacks     Python's stacks of a process that the watchdog ended
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from jaxgen.errors import RESTART_STATUS, CheckpointError
from jaxgen.files import write_atomically
from jaxgen.json_values import read_json
from jaxgen.redaction import redacted
from jaxgen.training.timing import Phase, PhaseClock

FOLDER = "heartbeats"
SHAPE = {
    "process": int, "process_id": int, "time": float, "step": int, "phase": str,
    "limit": (float, None), "error": (str, None),
}  # fmt: skip
"""The shape of the file: `step` is the last one completed, `limit` how many seconds after `time`
the process counts as stuck, `error` what ended it."""
LONGER = {"compiling": 4, "evaluation": 4, "checkpoint": 4}
"""How many times the limit these may take: nothing is heard from inside them, and compiling a
large model for many devices, or scoring it, takes longer than any step."""
WRITE_SECONDS = 1.0


class Heartbeat:
    """Follows a process through its phases, tells of it in a file, and watches that it gets on.

    Enter it as a context, in which the watchdog runs. Without a folder there is neither.

    Args:
      folder: of the run; None: nothing is written and watched.
      process: its number.
      count: of the processes.
      limit: seconds without progress after which the watchdog ends the process; None: it does not.
      clock: of the phases.
      end: ends the process.
    """

    def __init__(
        self,
        folder: pathlib.Path | None = None,
        process: int = 0,
        count: int = 1,
        limit: float | None = None,
        clock: PhaseClock | None = None,
        end: Callable[[int], Any] = os._exit,
    ):
        self.clock = PhaseClock() if clock is None else clock
        self.step = 0
        self._folder = None if folder is None else folder / FOLDER
        self._process, self._count, self._limit, self._end = process, count, limit, end
        self._time, self._written = time.time(), 0.0
        self._beats = self._told = 0
        self._error: str | None = None
        self._lock, self._closing = threading.Lock(), threading.Event()

    def enter(self, phase: Phase, step: int | None = None) -> None:
        """Begins a phase, which is progress.

        Args:
          phase: what the process does from now on.
          step: the last one completed, if that is known better now.
        """
        self.clock.enter(phase)
        self.step = self.step if step is None else step
        self._time, self._beats = time.time(), self._beats + 1
        if time.monotonic() - self._written >= WRITE_SECONDS:
            self._write()

    def __enter__(self) -> Heartbeat:
        if self._folder is not None:
            with contextlib.suppress(OSError):  # The disk may be full.
                self._folder.mkdir(exist_ok=True)
                if self._process == 0:
                    for path in self._folder.glob("*.json"):  # Of a start with more processes.
                        if path.stem.isdecimal() and int(path.stem) >= self._count:
                            path.unlink()
            self._write()
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self._error = redacted(f"{type(error).__name__}: {error}"[:500])
        self._closing.set()
        if self._folder is not None:
            self._thread.join()
            self._write()

    def _write(self) -> None:
        if self._folder is None:
            return
        if not self._lock.acquire(timeout=WRITE_SECONDS):
            return  # The other thread hangs in it, with the disk.
        try:
            self._told = self._beats
            phase = self.clock.phase
            limit = None if self._limit is None else self._limit * LONGER.get(phase, 1)
            beat = {
                "process": self._process, "process_id": os.getpid(), "time": self._time,
                "step": self.step, "phase": phase, "limit": limit, "error": self._error,
            }  # fmt: skip
            with contextlib.suppress(CheckpointError):  # A full disk must not end the run.
                write_atomically(self._folder / f"{self._process}.json", json.dumps(beat))
            self._written = time.monotonic()
        finally:
            self._lock.release()

    def _watch(self) -> None:
        """Writes what `enter` had no time for, and ends the process when it is stuck.

        Time is counted in turns of this thread, so that a process that was itself suspended does
        not take that for a hang of its own when it goes on.
        """
        turn = min(WRITE_SECONDS, (self._limit or WRITE_SECONDS) / 4)
        beats, idle = self._beats, 0.0
        while not self._closing.wait(turn):
            if self._told != self._beats:
                self._write()
            idle = 0.0 if beats != self._beats else idle + turn
            beats = self._beats
            limit = self._limit and self._limit * LONGER.get(self.clock.phase, 1)
            if limit is not None and idle >= limit:
                self._report(idle)
                self._end(RESTART_STATUS)
                return

    def _report(self, seconds: float) -> None:
        assert self._folder is not None
        others = [
            f"process {beat['process']}: step {beat['step']} completed, then {beat['phase']}"
            for beat in read_heartbeats(self._folder.parent)
        ]
        path = self._folder / f"{self._process}.stacks"
        lines = [
            f"process {self._process} has not got on for {seconds:.0f} s "
            f"({self.clock.phase}; execution.watchdog_minutes) and ends, to be started again; the "
            f"stacks are in {path}.",
            *others,
        ]
        self._error = lines[0]
        self._write()
        with contextlib.suppress(OSError), open(path, "w") as file:
            file.write("\n".join(lines) + "\n\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
        print("\n".join(["error: " + lines[0], *others]), file=sys.stderr, flush=True)


def read_heartbeats(run_dir: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the last heartbeat of each process of a run's last start, by process."""
    found = []
    for path in (run_dir / FOLDER).glob("*.json"):
        with contextlib.suppress(CheckpointError, OSError):
            found.append(read_json(path, SHAPE, "it is written anew at the next start"))
    found.sort(key=lambda beat: beat["process"])
    return found


def is_stuck(beat: dict[str, Any], now: float) -> bool:
    """Returns whether a heartbeat is older than its process may be silent."""
    return beat["limit"] is not None and now - beat["time"] > beat["limit"]
