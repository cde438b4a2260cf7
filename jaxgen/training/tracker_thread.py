"""A tracker works in a thread of its own, so that it can neither hold up a run nor end it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from jaxgen.errors import JaxgenWarning
from jaxgen.training.tracking import Tracker

QUEUED_ROWS = 256
CLOSE_SECONDS = 10.0


class TrackerThread:
    """Hands rows to a tracker in a thread; a tracker that fails or falls behind is dropped.

    What became of it is one note, from the thread of whoever logs; metrics.jsonl has every row.
    """

    def __init__(
        self,
        name: str,
        open_tracker: Callable[[], Tracker],
        queued_rows: int = QUEUED_ROWS,
        close_seconds: float = CLOSE_SECONDS,
    ):
        """Starts the thread.

        Args:
          name: of the tracker, for the note.
          open_tracker: makes the tracker; called in the thread, as it may hang or fail too.
          queued_rows: how many rows the tracker may be behind.
          close_seconds: how long it may take for them at the end.
        """
        self._name, self._close_seconds = name, close_seconds
        self._rows: queue.Queue[dict[str, Any] | None] = queue.Queue(queued_rows)
        self._failure: str | None = None
        self._is_dropped = False
        work = threading.Thread(target=self._work, args=(open_tracker,), name=name, daemon=True)
        self._thread = work
        work.start()

    def log(self, row: dict[str, Any]) -> None:
        """Leaves the row to the tracker, and never waits for it."""
        if self._failure is not None:
            self._drop(self._failure)
        if self._is_dropped:
            return
        try:
            self._rows.put_nowait(dict(row))
        except queue.Full:
            self._drop(f"it is {self._rows.maxsize} rows behind")

    def close(self) -> None:
        """Gives the tracker a few seconds to take the rows that are left and to end."""
        if not self._is_dropped:
            until = time.monotonic() + self._close_seconds
            with contextlib.suppress(queue.Full):
                self._rows.put(None, timeout=self._close_seconds)
            self._thread.join(max(0.0, until - time.monotonic()))
        if self._failure is not None:
            self._drop(self._failure)
        elif self._thread.is_alive():
            self._drop(f"it did not end within {self._close_seconds:g} s")

    def _drop(self, why: str) -> None:
        if self._is_dropped:
            return
        self._is_dropped = True
        warnings.warn(
            f"the tracker {self._name} is dropped ({why}) and gets no more rows; metrics.jsonl has "
            "them all.",
            JaxgenWarning,
            stacklevel=3,
        )

    def _work(self, open_tracker: Callable[[], Tracker]) -> None:
        tracker = None
        try:
            tracker = open_tracker()
            while (row := self._rows.get()) is not None and not self._is_dropped:
                tracker.log(row)
            tracker.close()
        except BaseException as error:  # Whatever a tracker's own code raises, SystemExit too.
            lines = str(error).splitlines()
            self._failure = ": ".join([type(error).__name__, *lines[:1]])
            if tracker is not None:
                with contextlib.suppress(BaseException):
                    tracker.close()
