"""A lease on a run says which process works on it: numbered files in the run's directory.

A process that takes a run creates `attempts/0001.json`, whole, and only if the file is not there
yet. The newest number holds the lease: its process rewrites the file every few seconds (a
heartbeat) and writes the outcome at the end. The next number may be created when the newest has an
outcome or its process is gone. A number is never created twice, so of several processes that try,
on any hosts that share the folder, one wins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import platform
import re
import secrets
import signal
import threading
import time
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from jaxgen.errors import CheckpointError
from jaxgen.files import write_atomically
from jaxgen.json_values import check_time, read_json
from jaxgen.redaction import redacted
from jaxgen.runs.run_directory import RunDirectory

HEARTBEAT_SECONDS = 5.0
TIMEOUT_SECONDS = 60.0
"""How long a lease of another host may go without a heartbeat before it counts as lost."""

Outcome = Literal["finished", "failed", "stopped", "interrupted"]
FIX = "if nobody works on the run, delete it"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """An attempt at a run, as its file records it.

    Attributes:
      number: counted from 1.
      host: identifies the machine or container of its process.
      process: identifies the process on that host.
      machine: the host's name, for people.
      begun: the time of its start, in ISO form.
      beat: how many heartbeats it has sent.
      outcome: how it ended; None while it works, or if its process died. "stopped" is early
        stopping.
      why: the error, or the reason for stopping; "" if there is none.
      seconds: the time from its start to its outcome.
    """

    number: int
    host: str
    process: str
    machine: str
    begun: str
    beat: int = 0
    outcome: Outcome | None = None
    why: str = ""
    seconds: float | None = None


def _check_process(value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch("[0-9]{1,9}(:[0-9]+)?", value):
        raise ValueError("must be the number of a process and its start")


def _check_outcome(value: Any) -> None:
    if value is not None and value not in typing.get_args(Outcome):
        raise ValueError(f"must be null or one of {', '.join(typing.get_args(Outcome))}")


SHAPE = {
    "number": int, "host": str, "process": _check_process, "machine": str, "begun": check_time,
    "beat?": int, "outcome?": _check_outcome, "why?": str, "seconds?": (float, None),
}  # fmt: skip
"""The shape of an attempt's file."""


@dataclasses.dataclass
class Lease:
    """A lease that this process acquired: it sends heartbeats and records the outcome."""

    folder: Path
    attempt: Attempt

    def __post_init__(self):
        self._begun = time.time()

    def is_lost(self) -> bool:
        """Returns whether another process took this one for dead and acquired the run."""
        return _path(self.folder, self.attempt.number + 1).exists()

    def release(self, outcome: Outcome, why: str = "") -> None:
        """Records how the attempt ended."""
        seconds = round(time.time() - self._begun, 3)
        self._write(outcome=outcome, why=redacted(why), seconds=seconds)

    def is_released(self) -> bool:
        """Returns whether an outcome is recorded, perhaps by another process."""
        return read_attempt(self.folder, self.attempt.number).outcome is not None

    @contextlib.contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Rewrites the file every few seconds, in the name of this process.

        A process that has lost its lease saves its state and ends.
        """
        self._write(host=_host(), process=_process(os.getpid()), machine=platform.node())
        done = threading.Event()

        def beat() -> None:
            while not done.wait(HEARTBEAT_SECONDS):
                if self.is_lost():
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                with contextlib.suppress(CheckpointError):  # A full disk may have room again.
                    self._write(beat=self.attempt.beat + 1)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _write(self, **changes: Any) -> None:
        self.attempt = dataclasses.replace(self.attempt, **changes)
        write_atomically(_path(self.folder, self.attempt.number), _text(self.attempt))


def acquire(directory: RunDirectory, after: int) -> Lease | None:
    """Begins the attempt that follows number `after`; None if another process was faster.

    Raises:
      CheckpointError: if the directory cannot be written.
    """
    folder = _folder(directory)
    attempt = Attempt(
        number=after + 1,
        host=_host(),
        process=_process(os.getpid()),
        machine=platform.node(),
        begun=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    temporary = folder / f".{attempt.number:04}.{secrets.token_hex(8)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(_text(attempt))
        try:
            # A link appears with its content or fails; on network file systems too.
            os.link(temporary, _path(folder, attempt.number))
        except FileExistsError:
            return None
        finally:
            temporary.unlink()
    except OSError as error:
        raise CheckpointError(
            f"no attempt can be recorded in {folder} ({error.strerror}); a sweep's folder must be "
            "writable, on a file system with hard links."
        ) from error
    return Lease(folder, attempt)


def read_attempts(directory: RunDirectory) -> list[Attempt]:
    """Returns every attempt so far, oldest first."""
    folder = _folder(directory)
    try:
        found = [re.fullmatch(r"([0-9]{4,9})\.json", name) for name in os.listdir(folder)]
        numbers = sorted(int(one[1]) for one in found if one)
    except FileNotFoundError:
        return []
    return [read_attempt(folder, number) for number in numbers]


def read_attempt(folder: Path, number: int) -> Attempt:
    """Returns one attempt.

    Raises:
      CheckpointError: if its file is not one that `acquire` writes.
    """
    path = _path(folder, number)
    try:
        return Attempt(**read_json(path, SHAPE, FIX))
    except (FileNotFoundError, NotADirectoryError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read as an attempt ({error}); {FIX}.") from error


class LeaseMonitor:
    """Tells attempts that are at work from those whose process died.

    A process of this host is looked up. Of another host only the heartbeats are visible, and they
    are timed by this host's clock alone, because clocks of hosts differ.
    """

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS):
        self._timeout = timeout_seconds
        self._seen: dict[tuple[str, int], tuple[int, float]] = {}

    def is_alive(self, directory: RunDirectory, attempt: Attempt) -> bool:
        """Returns whether the attempt is at work, as far as can be seen."""
        if attempt.outcome is not None:
            return False
        if attempt.host == _host():
            return _process(int(attempt.process.partition(":")[0])) == attempt.process
        key, now = (str(directory.path), attempt.number), time.monotonic()
        beat, since = self._seen.get(key, (-1, now))
        if beat != attempt.beat:
            self._seen[key] = (attempt.beat, now)
            return True
        return now - since < self._timeout


def _folder(directory: RunDirectory) -> Path:
    return directory.path / "attempts"


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:04}.json"


def _text(attempt: Attempt) -> str:
    return json.dumps(dataclasses.asdict(attempt), indent=1) + "\n"


def _host() -> str:
    """Identifies this kernel and this space of process numbers: a container has its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _process(number: int) -> str:
    """Returns a process's number and start time, as numbers are used again; "" if it is gone."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else f"{number}:{fields[19]}"
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return str(number)
