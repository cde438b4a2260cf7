"""Writes checkpoints by Orbax in the background, on all processes or on none."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pathlib
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, EveryNSteps, LatestN

from jaxgen import distributed
from jaxgen.errors import CheckpointError, JaxgenWarning
from jaxgen.runs.checkpoint_reading import cause_of, record_digest, silence_late_results
from jaxgen.runs.joint_saves import SaveBarrier, agreed_failure, align_operations
from jaxgen.training.digests import digests
from jaxgen.training.state import TrainState, flatten
from jaxgen.training.tracking import si

UNFINISHED = "*.orbax-checkpoint-tmp*"
"""What a save that was killed leaves."""
WAITING = 600
"""Seconds after which a process gives up waiting for the others' part of a save."""


class Writer:
    """Writes the checkpoints of a directory, and bears saves that fail.

    Every process calls the same methods in the same order, and an error is the same on all.

    Args:
      directory: theirs.
      keep: how many of the newest are kept; None: all.
      keep_every: those of every so many steps are kept for good; None: none is.
      max_failures: how many saves in a row may fail, with a warning, before one raises.
    """

    def __init__(
        self, directory: pathlib.Path, keep: int | None, keep_every: int | None, max_failures: int
    ):
        self._directory, self._max_failures = directory, max_failures
        self._policy = _policy(keep, keep_every)
        self._saving: int | None = None
        self._failed: list[CheckpointError] = []
        self._is_started = False
        silence_late_results()
        self._open()

    def _open(self) -> None:
        """Makes a manager.

        Raises:
          CheckpointError: if one process cannot, on all of them.
        """
        self._barrier = SaveBarrier()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._policy,
            create=True,
            async_options=ocp.options.AsyncOptions(
                timeout_secs=WAITING, barrier_sync_fn=self._barrier
            ),
        )
        problem = None
        try:
            with self._barrier.instead_of_collectives():
                self._manager = ocp.CheckpointManager(
                    self._directory, options=options, item_names=("state", "record")
                )
        except Exception as error:
            problem = error
        if (why := agreed_failure(problem, self._room())) is not None:
            raise CheckpointError(
                f"{self._directory} cannot be opened for checkpoints: {why}."
            ) from problem

    def steps(self) -> list[int]:
        """Returns the steps of all whole checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def reload(self) -> None:
        """Looks anew at what is in the directory."""
        self._manager.reload()

    def save(self, step: int, state: TrainState, record: dict[str, Any]) -> None:
        """Starts writing; see `Checkpoints.save`."""
        for attempt in (self.settle, lambda: self._start(step, state, record)):
            try:
                attempt()
            except CheckpointError as error:
                self._tolerate(error)

    def wait(self) -> None:
        """Returns when the last save is whole; see `Checkpoints.wait`."""
        self.settle()
        if self._failed:
            raise self._failed[-1]

    def settle(self) -> None:
        """Waits for a save that has been started, if there is one.

        Raises:
          CheckpointError: if it has failed on any process.
        """
        if self._is_started:
            self._is_started = False
            self._together(self._finish)
            if self._failed:
                self._failed = []
                gc.collect()  # Tasks that failed beside what was told log it when they go.

    def close(self) -> None:
        """Waits for a save that has been started, and ends Orbax's threads.

        Raises:
          CheckpointError: if it has failed here.
        """
        try:
            self._manager.close()
        except Exception as error:
            raise self._cannot_write(f"{cause_of(error)}. {self._room()}") from error

    def _start(self, step: int, state: TrainState, record: dict[str, Any]) -> None:
        arrays = flatten(state)
        self._saving = step
        size = sum(array.nbytes for array in arrays.values())
        # Asked of the main process before any begins, so that all go on or none does.
        distributed.on_main(self._check_room, size)
        marks = {name: int(value) for name, value in digests(arrays).items()}
        # It is written in the background, when what it was made of may have changed.
        record = json.loads(json.dumps(record))
        record = {**record, "digests": {**marks, "record": record_digest(record)}}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
        )
        self._together(lambda: self._manager.save(step, args=args))
        self._is_started = True

    def _finish(self) -> None:
        checkpointer: Any = self._manager._checkpointer  # The manager itself cancels nothing.
        with self._barrier.listening(checkpointer.cancel):
            self._manager.wait_until_finished()

    def _together(self, attempt: Callable[[], object]) -> None:
        """Does a part of a save; if it fails on any process, it is given up on all.

        Raises:
          CheckpointError: the same on all processes.
        """
        problem = None
        try:
            with self._barrier.instead_of_collectives():
                attempt()
        except Exception as error:
            problem = error
        if (why := agreed_failure(problem, self._room())) is None:
            return
        # A host whose disk is at fault may not even see what is there.
        failure = self._cannot_write(why, distributed.on_main(self.steps))
        self._give_up()
        raise failure from problem

    def _give_up(self) -> None:
        """Takes another manager, as one whose save has failed forgets what it wanted to remove."""
        for end in (self._manager.wait_until_finished, self._manager.close):
            with contextlib.suppress(Exception):
                end()
        distributed.on_main(self._prepare_anew)
        align_operations()
        self._open()

    def _prepare_anew(self) -> None:
        clear_unfinished(self._directory)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot_write(f"{cause_of(error)}. {self._room()}") from error

    def _check_room(self, size: int) -> None:
        """Raises CheckpointError if so many bytes cannot be written."""
        try:
            probe = self._directory / f".probe-{os.getpid()}"
            probe.mkdir(exist_ok=True)
            probe.rmdir()
            free = shutil.disk_usage(self._directory).free
        except OSError as error:
            raise self._cannot_write(f"{cause_of(error)}. {self._room()}") from error
        if free < size:
            raise self._cannot_write(f"it has up to {si(size)}B. {self._room()}")

    def _tolerate(self, error: CheckpointError) -> None:
        """Counts a failed save; raises its error if there were too many in a row."""
        self._failed.append(error)
        if len(self._failed) > self._max_failures:
            raise error
        if distributed.is_main():
            clear_unfinished(self._directory)
        warnings.warn(
            f"{error} Training goes on, and ends after "
            f"{self._max_failures - len(self._failed) + 1} more that fail in a row "
            "(execution.max_save_failures).",
            JaxgenWarning,
            stacklevel=5,
        )

    def _room(self) -> str:
        directory = self._directory
        free = shutil.disk_usage(directory).free if os.path.exists(directory) else 0
        return f"{si(free)}B are free there"

    def _cannot_write(self, why: str, whole: list[int] | None = None) -> CheckpointError:
        whole = self.steps() if whole is None else whole
        return CheckpointError(
            f"the checkpoint of step {self._saving} could not be written to {self._directory}: "
            f"{why}. Checkpoints that are whole: {whole or 'none'}; start again to go on "
            "from the newest."
        )


def clear_unfinished(directory: pathlib.Path) -> None:
    """Removes what saves that were killed, or failed, have left."""
    for left in directory.glob(UNFINISHED):
        shutil.rmtree(left, ignore_errors=True)


def _policy(keep: int | None, keep_every: int | None) -> Any:
    """Returns Orbax's rule for which checkpoints stay."""
    permanent = [EveryNSteps(keep_every)] if keep_every else []
    return AnyPreservationPolicy([LatestN(keep), *permanent])
