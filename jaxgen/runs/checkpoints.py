"""Checkpoints: state, where the data stands, and digests that tell a damaged file.

The state is saved as a flat dictionary from names to arrays, so that a checkpoint can be read
without jaxgen and onto any mesh. Orbax writes in the background and renames a checkpoint into
place when it is whole; a save that was killed leaves a folder that is never taken for one.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import pathlib
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, EveryNSteps, LatestN

from jaxgen import distributed
from jaxgen.errors import (
    CheckpointError,
    DamagedCheckpointError,
    JaxgenWarning,
    UnreadableCheckpointError,
)
from jaxgen.models.parameters import is_variable
from jaxgen.runs.checkpoint_reading import (
    cause_of,
    changed_part,
    read_checkpoint,
    record_digest,
)
from jaxgen.runs.events import tell_event
from jaxgen.training.digests import digests
from jaxgen.training.state import TrainState, flatten

DAMAGED, REWOUND = "damaged", "rewound"
"""The beginnings of the names of checkpoints' folders that were set aside, and why."""
UNFINISHED = "*.orbax-checkpoint-tmp*"
"""What a save that was killed leaves."""
WAITING = 600
"""Seconds after which a process gives up waiting for the others' part of a save."""


class Checkpoints:
    """The checkpoints of one run; use as a context manager, so that the last save is waited for.

    Args:
      directory: theirs.
      keep: how many of the newest are kept; None: all.
      keep_every: those of every so many steps are kept for good; None: none is.
      max_save_failures: how many saves in a row may fail, with a warning, before one raises.
      note: is given a record of each that is set aside as damaged; on all processes.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        keep: int | None = None,
        keep_every: int | None = None,
        max_save_failures: int = 0,
        note: Callable[[dict[str, Any]], object] = tell_event,
    ):
        self.directory = directory
        self._saving: int | None = None
        self._max_failures, self._note = max_save_failures, note
        self._failed: list[CheckpointError] = []
        self._is_started = False
        # Orbax logs, with tracebacks, what it also raises; the caller says it in one line.
        self._logs = {name: logging.getLogger(name).level for name in ("absl", "asyncio")}
        for name in self._logs:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._manager = ocp.CheckpointManager(
            directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_policy(keep, keep_every),
                create=True,
                async_options=ocp.options.AsyncOptions(timeout_secs=WAITING),
            ),
            item_names=("state", "record"),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        try:
            self._manager.close()
        except Exception as error:
            if kind is None:  # Otherwise what ended the block is what must be told.
                raise self._cannot_write(error) from error
        finally:
            if kind is not None:
                gc.collect()  # Tasks that failed beside what was told log it when they go.
            for name, level in self._logs.items():
                logging.getLogger(name).setLevel(level)

    def latest_step(self) -> int | None:
        """Returns the newest whole checkpoint's step."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Returns the steps of all whole checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: TrainState, record: dict[str, Any]) -> None:
        """Starts writing `state` and a JSON record; returns once the arrays may be donated.

        A save that fails, or has failed since the last call, is told in a warning, and the run goes
        on; `wait` raises.

        Raises:
          CheckpointError: if more saves in a row have failed than may.
        """
        for attempt in (self._settle, lambda: self._start(step, state, record)):
            try:
                attempt()
            except CheckpointError as error:
                self._tolerate(error)

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
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
                ),
            )
        except Exception as error:
            raise self._cannot_write(error) from error
        self._is_started = True

    def _check_room(self, size: int) -> None:
        """Raises CheckpointError if so many bytes cannot be written."""
        try:
            probe = self.directory / f".probe-{os.getpid()}"
            probe.mkdir(exist_ok=True)
            probe.rmdir()
            free = shutil.disk_usage(self.directory).free
        except OSError as error:
            raise self._cannot_write(error) from error
        if free < size:
            raise self._cannot_write(OSError(f"it has up to {size / 1e9:.1f} GB"))

    def _tolerate(self, error: CheckpointError) -> None:
        """Counts a failed save; raises its error if there were too many in a row."""
        self._failed.append(error)
        if len(self._failed) > self._max_failures:
            raise error
        if distributed.is_main():
            self._clear_unfinished()
        warnings.warn(
            f"{error} Training goes on; {self._max_failures - len(self._failed) + 1} more failures "
            "in a row end it (execution.max_save_failures).",
            JaxgenWarning,
            stacklevel=4,
        )

    def _clear_unfinished(self) -> None:
        for left in self.directory.glob(UNFINISHED):
            shutil.rmtree(left, ignore_errors=True)

    def wait(self) -> None:
        """Returns when the last save is whole on disk.

        Raises:
          CheckpointError: if it could not be written.
        """
        self._settle()
        if self._failed:
            raise self._failed[-1]

    def _settle(self) -> None:
        """Waits for a save that has been started, if there is one."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._cannot_write(error) from error
        if self._is_started:
            self._failed, self._is_started = [], False

    def restore(self, abstract_state: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Reads a checkpoint into the shapes and layouts of `abstract_state`.

        Args:
          abstract_state: a pytree of jax.ShapeDtypeStruct with shardings; what is None in it is not
            read.
          step: which; the newest by default.

        Returns:
          The state, and the record saved with it.

        Raises:
          CheckpointError: if there is none, if it cannot be read, or if its shapes differ; the same
            on all processes.
          DamagedCheckpointError: if its files are not those that were saved.
        """
        available = self.steps()
        step = self.latest_step() if step is None else step
        if step is None or step not in available:
            missing = "checkpoint" if step is None else f"checkpoint of step {step}"
            raise CheckpointError(f"{self.directory} has no {missing}; it has steps {available}.")
        flat = flatten(abstract_state)
        restored, record = self._read(step, flat)
        if (name := changed_part(restored, record)) is not None:
            raise DamagedCheckpointError(
                f"the checkpoint of step {step} in {self.directory} is damaged: {name} does "
                f"not have the digest it was saved with. {self._advice(step)}"
            )
        leaves, structure = jax.tree_util.tree_flatten(abstract_state, is_leaf=is_variable)
        values = [
            x.replace(restored[name]) if is_variable(x) else restored[name]
            for name, x in zip(flat, leaves, strict=True)
        ]
        return jax.tree_util.tree_unflatten(structure, values), record

    def restore_newest(self, abstract_state: Any) -> tuple[Any, dict[str, Any]] | None:
        """Reads the newest checkpoint that is whole; damaged ones are set aside, with a warning.

        So is one that cannot be read, if an older one can: what all have in common, such as the
        model or the library, is then not at fault.

        Returns:
          As `restore` does; None if there is none.

        Raises:
          CheckpointError: if one cannot be read for another reason.
        """
        distributed.on_main(self._clear_unfinished)
        unreadable: list[tuple[int, CheckpointError]] = []
        for step in self.steps()[::-1]:
            try:
                found = self.restore(abstract_state, step)
            except DamagedCheckpointError as error:
                self._put_aside(step, error)
            except UnreadableCheckpointError as error:
                unreadable.append((step, error))
            else:
                for newer, error in unreadable:
                    self._put_aside(newer, error)
                return found
        if unreadable:
            raise unreadable[0][1]
        return None

    def _put_aside(self, step: int, error: CheckpointError) -> None:
        aside = distributed.on_main(self._set_aside, step)
        self._manager.reload()
        why = str(error).partition(" Nothing was changed.")[0]
        self._note({"event": "set aside", "step": step, "why": why, "to": aside})

    def drop_after(self, step: int) -> None:
        """Sets all checkpoints of later steps aside, which training has to go through anew."""
        self._settle()
        for later in [one for one in self.steps() if one > step]:
            distributed.on_main(self._set_aside, later, REWOUND)
        self._manager.reload()

    def _read(self, step: int, flat: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the arrays and the record of a checkpoint, unchecked."""
        try:
            return read_checkpoint(self.directory / str(step), flat)
        except CheckpointError as error:
            raise type(error)(
                f"the checkpoint of step {step} in {self.directory} cannot be read: {error}. "
                f"{self._advice(step)}"
            ) from error

    def _set_aside(self, step: int, name: str = DAMAGED) -> str:
        """Moves a checkpoint to a folder that is never taken for one, and returns it."""
        folder = self.directory / f"{name}-{step}"
        taken = 1
        while folder.exists():
            taken += 1
            folder = self.directory / f"{name}-{step}-{taken}"
        os.replace(self.directory / str(step), folder)
        return str(folder)

    def _advice(self, step: int) -> str:
        others = [other for other in self.steps() if other != step]
        folder = self.directory / str(step)
        then = f"the run then goes on from step {others[-1]}" if others else "the run starts afresh"
        return f"Nothing was changed. Move {folder} away and start again; {then}."

    def _cannot_write(self, error: Exception) -> CheckpointError:
        free = shutil.disk_usage(self.directory).free if os.path.exists(self.directory) else 0
        return CheckpointError(
            f"the checkpoint of step {self._saving} could not be written to {self.directory}: "
            f"{cause_of(error)}. {free / 1e9:.1f} GB are free there. "
            f"Checkpoints that are whole: {self.steps()}; start again to go on from the newest."
        )


def _policy(keep: int | None, keep_every: int | None) -> Any:
    """Returns Orbax's rule for which checkpoints stay."""
    permanent = [EveryNSteps(keep_every)] if keep_every else []
    return AnyPreservationPolicy([LatestN(keep), *permanent])
