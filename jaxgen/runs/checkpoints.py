"""Checkpoints: state, where the data stands, and digests that tell a damaged file.

The state is saved as a flat dictionary from names to arrays, so that a checkpoint can be read
without jaxgen and onto any mesh. Orbax writes in the background and renames a checkpoint into
place when it is whole; a save that was killed leaves a folder that is never taken for one.
"""

from __future__ import annotations

import gc
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any, Protocol

import jax

from jaxgen import distributed
from jaxgen.errors import CheckpointError, DamagedCheckpointError, UnreadableCheckpointError
from jaxgen.models.parameters import is_variable
from jaxgen.runs.checkpoint_reading import changed_part, parameters_digest, read_checkpoint
from jaxgen.runs.checkpoint_writing import Writer, clear_unfinished
from jaxgen.runs.events import tell_event
from jaxgen.runs.state_precision import OtherPrecision
from jaxgen.training.state import TrainState, flatten

DAMAGED, REWOUND = "damaged", "rewound"
"""The beginnings of the names of checkpoints' folders that were set aside, and why."""


class Copies(Protocol):
    """Other copies of checkpoints, which the main process asks for, as `MirrorCopies` does."""

    def differs(self, step: int) -> bool:
        """Returns whether the checkpoint here is surely not what was copied."""
        ...

    def fetch(self, step: int) -> list[dict[str, Any]]:
        """Puts a copy into the place of a checkpoint, if it can; returns events that tell of it."""
        ...


class Checkpoints:
    """The checkpoints of one run; use as a context manager, so that the last save is waited for.

    Args:
      directory: theirs.
      keep: how many of the newest are kept; None: all.
      keep_every: those of every so many steps are kept for good; None: none is.
      max_save_failures: how many saves in a row may fail, with a warning, before one raises.
      note: is given a record of each that is set aside as damaged; on all processes.
      copies: of which one that is damaged is fetched again; None: there are none.
      otherwise: how those that were saved in another precision are read; None: there are none.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        keep: int | None = None,
        keep_every: int | None = None,
        max_save_failures: int = 0,
        note: Callable[[dict[str, Any]], object] = tell_event,
        copies: Copies | None = None,
        otherwise: OtherPrecision | None = None,
    ):
        self.directory, self._note = directory, note
        self._copies, self._otherwise = copies, otherwise
        # Orbax logs, with tracebacks, what it also raises; the caller says it in one line.
        self._logs = {name: logging.getLogger(name).level for name in ("absl", "asyncio")}
        for name in self._logs:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._writer = Writer(directory, keep, keep_every, max_save_failures)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        is_told = kind is not None
        try:
            self._writer.close()
        except CheckpointError:
            is_told = True
            if kind is None:  # Otherwise what ended the block is what must be told.
                raise
        finally:
            # Tasks that failed beside what is told log it when they go, some as late as at the end
            # of the process: then the loggers stay silent.
            if is_told:
                gc.collect()
            else:
                for name, level in self._logs.items():
                    logging.getLogger(name).setLevel(level)

    def latest_step(self) -> int | None:
        """Returns the newest whole checkpoint's step."""
        return max(self.steps(), default=None)

    def steps(self) -> list[int]:
        """Returns the steps of all whole checkpoints, ascending."""
        return self._writer.steps()

    def save(self, step: int, state: TrainState, record: dict[str, Any]) -> None:
        """Starts writing `state` and a JSON record; returns once the arrays may be donated.

        A save that fails, or has failed since the last call, is told in a warning, and the run goes
        on; `wait` raises.

        Raises:
          CheckpointError: if more saves in a row have failed than may.
        """
        self._writer.save(step, state, record)

    def wait(self) -> None:
        """Returns when the last save is whole on disk.

        Raises:
          CheckpointError: if it could not be written.
        """
        self._writer.wait()

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
        other = self._otherwise
        if other is not None and step <= other.last_step and abstract_state.optimizer_state:
            state, record = self._restored(other.abstract_state(abstract_state), step)
            return other.convert(state, abstract_state), record
        return self._restored(abstract_state, step)

    def _restored(self, abstract_state: Any, step: int) -> tuple[Any, dict[str, Any]]:
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
        distributed.on_main(clear_unfinished, self.directory)
        unreadable: list[tuple[int, CheckpointError]] = []
        for step in self.steps()[::-1]:
            try:
                found = self._restore_or_fetch(abstract_state, step)
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

    def _restore_or_fetch(self, abstract_state: Any, step: int) -> tuple[Any, dict[str, Any]]:
        """Reads a checkpoint, from another copy where the one here is damaged."""
        try:
            return self.restore(abstract_state, step)
        except (DamagedCheckpointError, UnreadableCheckpointError) as error:
            copies = self._copies
            if copies is None:
                raise
            is_damaged = isinstance(error, DamagedCheckpointError)
            if not (is_damaged or distributed.on_main(copies.differs, step)):
                raise
            self._put_aside(step, error)
            for event in distributed.on_main(copies.fetch, step):
                self._note(event)
            self._writer.reload()
            if step not in self.steps():
                raise
            return self.restore(abstract_state, step)

    def _put_aside(self, step: int, error: CheckpointError) -> None:
        if step not in self.steps():
            return  # It was put aside for a copy that could not be fetched.
        aside = distributed.on_main(self._set_aside, step)
        self._writer.reload()
        why = str(error).partition(" Nothing was changed.")[0]
        self._note({"event": "set aside", "step": step, "why": why, "to": aside})

    def parameters_digest(self) -> str:
        """Returns what tells the newest checkpoint's parameters from others; none are read.

        Raises:
          CheckpointError: if there is no checkpoint, or its record cannot be read.
        """
        step = self.latest_step()
        if step is None:
            raise CheckpointError(f"{self.directory} has no checkpoint.")
        return parameters_digest(self.directory / str(step))

    def drop_after(self, step: int) -> None:
        """Sets all checkpoints of later steps aside, which training has to go through anew."""
        self._writer.settle()
        for later in [one for one in self.steps() if one > step]:
            distributed.on_main(self._set_aside, later, REWOUND)
        self._writer.reload()

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
