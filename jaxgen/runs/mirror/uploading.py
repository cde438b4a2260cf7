"""Copies a run to its mirror while it trains, in a thread that neither holds it up nor ends it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from jaxgen import distributed
from jaxgen.errors import CheckpointError, InterruptedTrainingError
from jaxgen.redaction import redacted
from jaxgen.runs.events import append_event, tell_event
from jaxgen.runs.mirror.copying import Copier
from jaxgen.runs.mirror.store import Mirror, open_mirror
from jaxgen.runs.run_directory import RunDirectory

POLL_SECONDS = 1.0
"""Between looks at the folder of checkpoints, which Orbax renames into place by itself."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds after a failure, and after many."""
LAST_ATTEMPTS = 3
"""Failures in a row at the end of a run, after which what is missing is left."""
END_SECONDS, IDLE_SECONDS = 1800.0, 120.0
"""At the end of a run, how long copying may take, and how long without getting on."""
STOPPED_SECONDS = 20.0
"""How long it may take where the run was asked to stop: Kubernetes gives 30 seconds in all."""


@contextlib.contextmanager
def mirroring(
    url: str | None, directory: RunDirectory, keep_every: int | None
) -> Iterator[Uploads | None]:
    """Copies a run to its mirror until it ends; call it on all processes, the main one copies.

    Args:
      url: of the mirror; None: there is none.
      directory: of the run.
      keep_every: checkpoints of every so many steps stay in the mirror; 0: none does for that;
        None: nothing is removed there.
    """
    if url is None:
        yield None
        return
    uploads = None
    if distributed.is_main():
        uploads = Uploads(open_mirror(url, directory), directory, keep_every, POLL_SECONDS)

    def finish(seconds: float) -> None:
        if uploads is not None:
            uploads.finish(seconds)

    try:
        yield uploads
    except Exception as error:
        # The others wait for it, where they know that it is done.
        if distributed.process_count() == 1 or distributed.is_shared(error):
            is_asked = isinstance(error, InterruptedTrainingError)
            distributed.on_main(finish, STOPPED_SECONDS if is_asked else END_SECONDS)
        raise
    else:
        distributed.on_main(finish, END_SECONDS)
    finally:
        if uploads is not None:
            uploads.abandon()


class Uploads:
    """The thread that copies, and what a person should know of it.

    It is a tracker, as events are told from the thread that trains.
    """

    def __init__(
        self,
        mirror: Mirror,
        directory: RunDirectory,
        keep_every: int | None,
        poll: float,
        idle_seconds: float = IDLE_SECONDS,
    ):
        """Makes the thread, which begins with the first row.

        Before it, a checkpoint here may turn out to be damaged, and must not replace its copy.

        Args:
          mirror: where to.
          directory: of the run.
          keep_every: see `mirroring`.
          poll: seconds between looks at the checkpoints.
          idle_seconds: without getting on, after which what is missing at the end is left.
        """
        self._copier = Copier(mirror, directory, keep_every, self._get_on, self._note)
        self._url, self._history_file = mirror.url, directory.history_file
        self._poll, self._idle_seconds = poll, idle_seconds
        self._events: queue.Queue[dict[str, Any]] = queue.Queue(100)
        self._closing = threading.Event()
        self._alive, self._is_silent = time.monotonic(), False
        self._why = "there was no time"
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)

    def log(self, row: dict[str, Any]) -> None:
        """Tells what has happened; the row itself is of no interest."""
        self._begin()
        silent = time.monotonic() - self._alive
        if silent > self._idle_seconds + LONGEST_PAUSE and not self._is_silent:
            self._is_silent = True
            self._note(f"{self._url} has not answered for {silent:.0f} s. Training goes on.")
        self._tell()

    def close(self) -> None:
        """Does nothing: a run's last state is written after its trackers were closed."""

    def finish(self, seconds: float) -> None:
        """Waits for the copies, and tells what is missing after so many seconds."""
        self._begin()
        self._closing.set()
        self._alive, end = time.monotonic(), time.monotonic() + seconds
        while self._thread.is_alive():
            now = time.monotonic()
            if now > end or now > self._alive + self._idle_seconds:
                break
            self._thread.join(0.05)
        missing = self._copier.missing()
        if missing or self._thread.is_alive() or self._why:
            what = ", ".join(map(str, missing)) or "none, but of the last small files"
            self._note(
                f"the run ends before {self._url} has all of it; checkpoints that are "
                f"missing there: {what} ({self._why or 'there was no time'}). They are here; the "
                "same command copies them."
            )
        self._tell()

    def abandon(self) -> None:
        """Lets the thread end as soon as it can."""
        self._copier.is_abandoned = True
        self._closing.set()

    def _begin(self) -> None:
        if self._thread.ident is None:
            self._get_on()
            self._thread.start()

    def _tell(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                tell_event(event)
                with contextlib.suppress(CheckpointError):  # A full disk is told by others.
                    append_event(self._history_file, event)

    def _note(self, why: str) -> None:
        with contextlib.suppress(queue.Full):
            self._events.put_nowait({"event": "mirror", "why": redacted(why)})

    def _get_on(self, *size: Any, **more: Any) -> None:
        self._alive, self._is_silent = time.monotonic(), False

    def _work(self) -> None:
        failures = last_failures = 0
        while not self._copier.is_abandoned:
            is_last = self._closing.is_set()
            self._get_on()
            try:
                self._copier.copy_what_is_new(is_last)
            except Exception as error:  # Stores raise errors of many libraries.
                failures, last_failures = failures + 1, last_failures + is_last
                self._why = _first_line(error)
                if failures == 1:
                    self._note(
                        f"{self._url} cannot be written: {self._why}. Training goes on, and "
                        "it is tried again."
                    )
                if last_failures == LAST_ATTEMPTS:
                    return
                pause = min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE)
                pause = min(pause, FIRST_PAUSE) if is_last else pause
            else:
                if failures:
                    self._note(f"{self._url} has all again, after {failures} failures.")
                failures, self._why, pause = 0, "", self._poll
                if is_last:
                    return
            if is_last:
                time.sleep(pause)
            else:
                self._closing.wait(pause)


def _first_line(error: Exception) -> str:
    lines = redacted(str(error)).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200].rstrip(".: ")
