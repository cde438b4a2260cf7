"""Who works on a run: numbered files in its directory, one an attempt.

`attempts/0001.json` is made by whoever first takes the run, whole and only if it is not there yet.
The newest number is the run's owner; it rewrites its file every few seconds and at last says what
became of it. The next number may be made when the newest has ended or its process is gone. A number
is never made twice, so of any takers, on any hosts that share the folder, one wins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import platform
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from jaxgen.errors import CheckpointError
from jaxgen.files import write_atomically
from jaxgen.runs.run_directory import RunDirectory

BEAT_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
"""How long a file of another host may stay as it is before its owner counts as gone."""

Outcome = Literal["finished", "failed", "stopped", "interrupted"]


@dataclasses.dataclass(frozen=True)
class Record:
    """What an attempt's file says.

    Attributes:
      number: counted from 1.
      host: where its process is, told apart from every other machine and container.
      process: which it is there.
      machine: the host's name, for people.
      beat: how often the file was rewritten.
      begun: when, in ISO form.
      outcome: None while it is at work, or if it died.
      why: the error or the reason of a stop, "" if there is none.
      seconds: from the beginning to the outcome.
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


@dataclasses.dataclass
class Attempt:
    """One's own attempt: beats while it works, and tells the outcome."""

    folder: Path
    record: Record

    def __post_init__(self):
        self._begun = time.time()

    def is_superseded(self) -> bool:
        """Whether somebody took this process for dead and the run for free."""
        return _path(self.folder, self.record.number + 1).exists()

    def end(self, outcome: Outcome, why: str = "") -> None:
        """Tells what became of it."""
        seconds = round(time.time() - self._begun, 3)
        self._write(outcome=outcome, why=why, seconds=seconds)

    def has_ended(self) -> bool:
        """Whether its outcome is told, perhaps by another process."""
        return read(self.folder, self.record.number).outcome is not None

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Rewrites the file now and then, in this process's name.

        A process whose run was taken by another saves its state and ends.
        """
        self._write(host=_host(), process=_process(os.getpid()), machine=platform.node())
        done = threading.Event()

        def beat() -> None:
            while not done.wait(BEAT_SECONDS):
                if self.is_superseded():
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                with contextlib.suppress(CheckpointError):  # A full disk may have room again.
                    self._write(beat=self.record.beat + 1)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _write(self, **changes: Any) -> None:
        self.record = dataclasses.replace(self.record, **changes)
        write_atomically(_path(self.folder, self.record.number), _text(self.record))


def take(directory: RunDirectory, after: int) -> Attempt | None:
    """Makes the attempt that follows number `after`; None if somebody else has made it.

    Raises:
      CheckpointError: if the directory cannot be written.
    """
    folder = _folder(directory)
    record = Record(
        number=after + 1,
        host=_host(),
        process=_process(os.getpid()),
        machine=platform.node(),
        begun=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    temporary = folder / f".{record.number:04}.{secrets.token_hex(8)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(_text(record))
        try:
            # A link appears with its content or fails; on network file systems too.
            os.link(temporary, _path(folder, record.number))
        except FileExistsError:
            return None
        finally:
            temporary.unlink()
    except OSError as error:
        raise CheckpointError(
            f"no attempt can be noted in {folder} ({error.strerror}); a sweep's folder must be "
            "writable, on a file system that knows hard links."
        ) from error
    return Attempt(folder, record)


def history(directory: RunDirectory) -> list[Record]:
    """Every attempt so far, oldest first."""
    folder = _folder(directory)
    try:
        numbers = sorted(int(name[:-5]) for name in os.listdir(folder) if name[:-5].isdigit())
    except FileNotFoundError:
        return []
    return [read(folder, number) for number in numbers]


def read(folder: Path, number: int) -> Record:
    """The file of one attempt.

    Raises:
      CheckpointError: if it is not what `take` writes.
    """
    path = _path(folder, number)
    try:
        return Record(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read as an attempt ({error}); if nobody works on the run, delete it."
        ) from error


class Observer:
    """Tells living attempts from dead ones.

    A process of this host is looked up. Of another host only the beats are seen, by this host's
    clock alone: clocks of hosts differ.
    """

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS):
        self._patience = patience_seconds
        self._seen: dict[tuple[str, int], tuple[int, float]] = {}

    def is_alive(self, directory: RunDirectory, record: Record) -> bool:
        """Whether the attempt is at work, as far as can be seen."""
        if record.outcome is not None:
            return False
        if record.host == _host():
            return _process(int(record.process.partition(":")[0])) == record.process
        key, now = (str(directory.path), record.number), time.monotonic()
        beat, since = self._seen.get(key, (-1, now))
        if beat != record.beat:
            self._seen[key] = (record.beat, now)
            return True
        return now - since < self._patience


def _folder(directory: RunDirectory) -> Path:
    return directory.path / "attempts"


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:04}.json"


def _text(record: Record) -> str:
    return json.dumps(dataclasses.asdict(record), indent=1) + "\n"


def _host() -> str:
    """This kernel and this space of process numbers: a container has its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _process(number: int) -> str:
    """A process's number and time of start, as numbers are used again; "" if it is gone."""
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
