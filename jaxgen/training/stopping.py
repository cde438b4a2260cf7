"""Stopping and saving on request: what asks for either is noted, and the loop does it."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from jaxgen.distributed import Agreement
from jaxgen.errors import RESTART_STATUS
from jaxgen.training.notices import NoticeWatch

NOTICES = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""What asks a run to stop: a person; Kubernetes, TPU machines and Slurm before they take a machine
away; and Slurm before the time is over, where --signal=USR1@SECONDS was chosen."""


class StopSignal:
    """Notes a signal that asks to stop instead of dying of it; a second one ends the process.

    A second signal is acted on at once, by a thread: Python's own handlers wait for as long as the
    main thread compiles or communicates. What is on disk is whole at any moment. The notice of a
    cloud (`notices`) asks to stop as well, and the signal that follows it is a first one.
    """

    def __init__(self):
        self.received: str | None = None
        self._signalled = False
        self._previous: dict[int, Any] = {}
        self._pipe: tuple[int, int] | None = None

    def __enter__(self) -> StopSignal:
        # Python lets only the main thread handle signals; elsewhere they are its caller's matter.
        if threading.current_thread() is threading.main_thread():
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            self._previous_pipe = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            threading.Thread(target=self._count, args=(self._pipe[0],), daemon=True).start()
            for number in NOTICES:
                self._previous[number] = signal.signal(number, lambda number, frame: None)
        self._watch = NoticeWatch(self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._watch.close()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._pipe is not None:
            signal.set_wakeup_fd(self._previous_pipe)
            os.close(self._pipe[1])

    def _count(self, pipe: int) -> None:
        """Notes the first signal and ends the process at the second; ends with the pipe."""
        while number := os.read(pipe, 1):
            if number[0] not in NOTICES:
                continue
            self.note_signal(signal.Signals(number[0]).name)
        os.close(pipe)

    def note_signal(self, name: str) -> None:
        """Notes the first signal, and ends the process at the second."""
        if self._signalled:
            os._exit(RESTART_STATUS)
        self._signalled = True
        self._note(name)

    def _note(self, why: str) -> None:
        self.received = self.received or why


class SaveTimer:
    """Tells all processes at one step that a checkpoint is due, by the time since the last.

    Args:
      minutes: between checkpoints; None: none is due.
    """

    def __init__(self, minutes: float | None):
        self._seconds = None if minutes is None else 60 * minutes
        self.saved()

    def saved(self) -> None:
        """Begins anew; call it at the same step on all processes."""
        self._since = time.monotonic()
        self._agreement = Agreement()

    def is_due(self, step: int) -> bool:
        """Returns whether a checkpoint is due after a step."""
        if self._seconds is None:
            return False
        is_late = time.monotonic() - self._since >= self._seconds
        return self._agreement.reason(step, "time" if is_late else None) is not None
