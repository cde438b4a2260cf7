"""Lets the processes that write one checkpoint fail together, and soon.

Orbax's processes meet in collectives of devices while a save begins, and at barriers while they
write in the background. One whose part fails, as on a host with a full disk, would leave the others
in the first for ever, and at the second until they give up, minutes later. At the barrier of this
file, which takes the place of both, they hear of it within seconds, and all give the save up.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator

from orbax.checkpoint._src.futures.future import set_signals
from orbax.checkpoint._src.futures.synchronization import (
    HandlerAwaitableSignal,
    OperationIdGenerator,
)
from orbax.checkpoint._src.multihost import multihost

from jaxgen import distributed
from jaxgen.errors import CheckpointError
from jaxgen.runs.checkpoint_reading import cause_of

POLL_SECONDS = 2.0
"""Between looks at whether another process has failed."""

_NUMBERS = itertools.count()


class FailedElsewhereError(CheckpointError):
    """A save that another process could not do its part of."""


class SaveBarrier:
    """A barrier for `ocp.options.AsyncOptions`, of one manager; make it on all processes.

    Orbax comes to its last barrier of a save also where that has failed, while it handles the
    error: this is how a process tells the others.
    """

    def __init__(self):
        self._name = f"jaxgen/save/{next(_NUMBERS)}"
        self._before = ""
        self._calls = collections.Counter[str]()

    def __call__(self, *, key: str, timeout_ms: int) -> None:
        """Returns when all processes are there.

        Raises:
          FailedElsewhereError: if another one has failed.
          TimeoutError: if one is late by so many milliseconds.
        """
        count = distributed.process_count()
        if count == 1:
            return
        if (error := sys.exception()) is not None:
            self.fail(error)
            raise error
        deadline = time.monotonic() + timeout_ms / 1000
        name = f"{self._name}/{key}/{self._calls[key]}"
        self._calls[key] += 1
        distributed.tell(f"{name}/{distributed.process_index()}", "is here")
        if not distributed.is_main():
            self._wait_for(f"{name}/all", deadline)
            return
        for index in range(count):
            self._wait_for(f"{name}/{index}", deadline)
        distributed.tell(f"{name}/all", "are here")
        if self._before:
            distributed.forget(self._before)  # Whoever is here has left that one.
        self._before = name

    @contextlib.contextmanager
    def instead_of_collectives(self) -> Iterator[None]:
        """Has Orbax meet here, too, where it would in a collective that nothing can end.

        An error of the block is told to the others. Only this thread may be in such a block, and
        Orbax has no other in its collectives.
        """
        plain = multihost.sync_global_processes

        def meet(name: str, **more: object) -> None:
            del more  # Nobody is late: a collective waits for ever.
            self(key=f"collective/{name}", timeout_ms=distributed.FOREVER)

        multihost.sync_global_processes = meet
        try:
            yield
        except Exception as error:
            self.fail(error)
            raise
        finally:
            multihost.sync_global_processes = plain

    def fail(self, error: BaseException) -> None:
        """Lets all other processes fail too, for this reason unless they have heard of another."""
        if distributed.process_count() == 1 or isinstance(error, FailedElsewhereError):
            return
        told = json.dumps([distributed.process_index(), cause_of(error)])
        distributed.tell(f"{self._name}/failed", told)
        if distributed.is_main():
            # Threads of the others wait for the folders that it makes, and not at a barrier.
            operation = OperationIdGenerator.get_current_operation_id()
            set_signals(
                [
                    HandlerAwaitableSignal.STEP_DIRECTORY_CREATION,
                    HandlerAwaitableSignal.ITEM_DIRECTORY_CREATION,
                ],
                operation_id=operation,
            )

    @contextlib.contextmanager
    def listening(self, cancel: Callable[[], object]) -> Iterator[None]:
        """Calls a function if the main process fails while the block waits for Orbax.

        What it has not made is waited for in other places than here. The main process itself must
        not cancel: it would go on to remove what this save was to replace.
        """
        if distributed.is_main():
            yield
            return
        is_over = threading.Event()

        def listen() -> None:
            while not is_over.wait(POLL_SECONDS):
                if distributed.heard(f"{self._name}/failed") is not None:
                    cancel()
                    return

        thread = threading.Thread(target=listen, name="save_failures")
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def _wait_for(self, name: str, deadline: float) -> None:
        while distributed.heard(name, POLL_SECONDS) is None:
            if (failed := distributed.heard(f"{self._name}/failed")) is not None:
                index, cause = json.loads(failed)
                raise FailedElsewhereError(f"process {index}: {cause}")
            if time.monotonic() > deadline:
                raise TimeoutError("the other processes have not written their parts in time")


def align_operations() -> None:
    """Gives all processes the same number of their next save, which Orbax counts on each.

    Where one has failed, others may have begun an operation more than it has.
    """
    own = OperationIdGenerator.get_current_operation_id
    newest = max(distributed.gather(int(own())))
    while int(own()) < newest:
        OperationIdGenerator.next_operation_id()


def agreed_failure(error: BaseException | None, where: str) -> str | None:
    """Returns why a save failed, the same on all processes; None if it failed on none.

    Args:
      error: of this process.
      where: what else tells of it, such as the room on its disk.
    """
    problem = None
    if error is not None:
        problem = [isinstance(error, FailedElsewhereError), f"{cause_of(error)}. {where}"]
    found = distributed.gather(problem)
    failed = [(*one, index) for index, one in enumerate(found) if one is not None]
    if not failed:
        return None
    is_told, why, index = min(failed)  # One that failed by itself comes before those it told.
    is_named = is_told or distributed.process_count() == 1
    return why if is_named else f"process {index}: {why}"
