"""A round in the making: its supervisor and processes, what they do, and what they have written."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from chaos_faults import orders
from chaos_faults.workload import ROOT, Workload
from jaxgen.errors import RESTART_STATUS
from jaxgen.files import read_rows
from jaxgen.runs.checkpoint_writing import UNFINISHED
from jaxgen.runs.run_directory import RunDirectory

RESTARTS = 6
"""That the supervisor may make without a new checkpoint."""
PATIENCE = 240.0
"""Seconds within which what is waited for happens, or the round has failed."""
POLL = 0.002
MARGIN = 20
"""Steps before the end of a run after which no fault is begun, and one that lasts is ended."""


class RoundError(Exception):
    """A round that did not go on."""


class Moment(NamedTuple):
    """What the main process of a round was seen to do for the first time."""

    time: float
    process_id: int
    step: int
    phase: str


class Running:
    """A run under its supervisor, watched from outside.

    Attributes:
      workload: what runs.
      directory: its run directory.
      moments: what its main process was seen to do, in order.
      starts_again: how often the supervisor itself was started again.
      log: the file of what all of them print.
    """

    def __init__(self, workload: Workload):
        self.workload = workload
        self.directory = RunDirectory(workload.run_dir)
        self.moments: list[Moment] = []
        self.starts_again = 0
        self.log = workload.folder / "log.txt"
        self._start()

    def _start(self) -> None:
        with open(self.log, "a") as log:
            self._supervisor = subprocess.Popen(
                self.workload.command(RESTARTS),
                env=self.workload.environment(),
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def now(self) -> Moment | None:
        """The last of the moments."""
        return self.moments[-1] if self.moments else None

    def look(self) -> None:
        """Notes what the main process does; starts a supervisor again that asks for it.

        Raises:
          RoundError: if the supervisor has given up.
        """
        seen = orders.read_observed(self.workload.orders, 0)
        if seen is not None:
            last = self.now
            if last is None or seen != (last.phase, last.step, last.process_id):
                moment = Moment(time.monotonic(), seen.process_id, seen.step, seen.phase)
                self.moments.append(moment)
        status = self._supervisor.poll()
        if status in (RESTART_STATUS, 128 + signal.SIGTERM):
            self.starts_again += 1
            self._start()
        elif status:
            raise RoundError(f"the supervisor ended with {status}: {self.last_words()}")

    def wait(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Looks until the condition holds, and returns its value.

        Raises:
          RoundError: if that takes too long, or the supervisor has ended.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.look()
            if value := condition():
                return value
            if self.has_ended():
                raise RoundError("the run came to its end before what was waited for")
            if time.monotonic() > deadline:
                raise RoundError(f"nothing happened for {seconds:g} s: {self.last_words()}")
            time.sleep(POLL)

    def wait_for_step(self, step: int) -> None:
        """Waits until the main process has completed a step."""
        self.wait(lambda: self.now is not None and self.now.step >= step)

    def is_near_end(self, step: int | None = None) -> bool:
        """Returns whether a step, or else the last one seen, is too late for a fault."""
        if step is None:
            step = self.now.step if self.now else 0
        return step > self.workload.steps - MARGIN

    def sleep(self, seconds: float) -> None:
        """Looks on for so long, or until the run nears its end: a quick one may not outlive it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.is_near_end():
            self.look()
            time.sleep(POLL)

    def finish(self, seconds: float = PATIENCE) -> None:
        """Waits for the end of the run; raises RoundError if it is none."""
        deadline = time.monotonic() + seconds
        while not self.has_ended():
            self.look()
            if time.monotonic() > deadline:
                raise RoundError(f"the run did not end within {seconds:g} s: {self.last_words()}")
            time.sleep(0.02)
        self.look()

    def has_ended(self) -> bool:
        """Returns whether the supervisor has ended well."""
        return self._supervisor.poll() == 0

    def left_over(self, seconds: float = 5.0) -> list[int]:
        """Returns the processes that have not ended some seconds after the supervisor has."""
        deadline = time.monotonic() + seconds
        while (left := processes_of(self.workload.orders)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def start_by_hand(self) -> None:
        """Gives the command again, as a person would after the supervisor gave up."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """Kills what is left of the round."""
        self._supervisor.kill()
        for process_id in processes_of(self.workload.orders):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        self._supervisor.wait()

    def trainer(self, process: int) -> int:
        """Returns the id of a process of the run, once it is there."""
        return self.wait(lambda: self._trainers().get(process))

    def _trainers(self) -> dict[int, int]:
        supervisor, found = self._supervisor.pid, {}
        for process_id in children_of(supervisor):
            number = environment_of(process_id).get("JAX_PROCESS_ID")
            if number is not None:
                found[int(number)] = process_id
        return found

    def send(self, signal_number: signal.Signals, *processes: int) -> None:
        """Sends processes a signal; one that has just ended gets none."""
        for process_id in [self.trainer(process) for process in processes]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal_number)

    def send_to_supervisor(self, number: signal.Signals) -> None:
        """Sends the supervisor a signal."""
        self._supervisor.send_signal(number)

    def is_saving(self) -> bool:
        """Returns whether a checkpoint is being written."""
        return any(self.directory.checkpoints.glob(UNFINISHED))

    def checkpoints(self) -> list[int]:
        """Returns the steps of the whole checkpoints, ascending."""
        return self.directory.saved_steps()

    def history(self) -> list[dict[str, Any]]:
        """Returns the lines of history.jsonl."""
        return read_rows(self.directory.history_file)

    def printed(self, since: int = 0) -> str:
        """Returns what was printed after so many bytes."""
        with open(self.log, "rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")

    def last_words(self) -> str:
        """Returns the last lines that were printed."""
        return " | ".join(self.printed().splitlines()[-4:])


def processes_of(folder: pathlib.Path) -> list[int]:
    """Returns the ids of all processes, of whatever parent, that belong to a folder of orders."""
    ids = [int(path.name) for path in pathlib.Path("/proc").glob("[0-9]*")]
    mine = [one for one in ids if environment_of(one).get(orders.FOLDER) == str(folder)]
    return [one for one in mine if is_alive(one)]


def is_alive(process_id: int) -> bool:
    """Returns whether a process has not ended, waited for or not."""
    try:
        stat = pathlib.Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children_of(process_id: int) -> list[int]:
    """Returns the ids of the processes that a process has started and that have not ended."""
    found: list[int] = []
    for path in pathlib.Path(f"/proc/{process_id}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def environment_of(process_id: int) -> dict[str, str]:
    """Returns the variables that a process was started with; none of one that has ended."""
    try:
        words = pathlib.Path(f"/proc/{process_id}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = [word.decode(errors="replace").partition("=") for word in words if word]
    return {name: value for name, _, value in pairs}
