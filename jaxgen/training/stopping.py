"""Stopping on request: signals are noted, so that the loop can save before it ends."""

from __future__ import annotations

import signal
import threading
from typing import Any


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
