"""Stopping and saving on request: what asks for either is noted, and the loop does it."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

from jaxgen.distributed import Agreement


class StopSignal:
    """Notes SIGINT and SIGTERM instead of dying of them; a second one acts as usual."""

    def __init__(self):
        self.received: str | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        # Python lets only the main thread handle signals; elsewhere they are its caller's matter.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        del frame
        self.received = signal.Signals(number).name
        signal.signal(number, self._previous[number])


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
