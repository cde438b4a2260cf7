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
import zlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxgen.errors import CheckpointError
from jaxgen.models.parameters import is_variable, path_name
from jaxgen.runs.digests import digests
from jaxgen.training.state import TrainState


def flatten(state: Any) -> dict[str, Any]:
    """Returns a pytree as a dictionary from dotted names to its arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(state, is_leaf=is_variable)
    return {path_name(path): x.get_value() if is_variable(x) else x for path, x in leaves}


class Checkpoints:
    """The checkpoints of one run; use as a context manager, so that the last save is waited for."""

    def __init__(self, directory: pathlib.Path, keep: int | None = None):
        self.directory = directory
        self._saving: int | None = None
        # Orbax logs, with tracebacks, what it also raises; the caller says it in one line.
        self._logs = {name: logging.getLogger(name).level for name in ("absl", "asyncio")}
        for name in self._logs:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._manager = ocp.CheckpointManager(
            directory,
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
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

        Raises:
          CheckpointError: if this save or the one before it cannot be written.
        """
        arrays = flatten(state)
        self.wait()
        self._saving = step
        marks = {name: int(value) for name, value in digests(arrays).items()}
        # It is written in the background, when what it was made of may have changed.
        record = json.loads(json.dumps(record))
        record = {**record, "digests": {**marks, "record": _record_digest(record)}}
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
                ),
            )
        except Exception as error:
            raise self._cannot_write(error) from error

    def wait(self) -> None:
        """Returns when the last save is whole on disk.

        Raises:
          CheckpointError: if it could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._cannot_write(error) from error

    def restore(self, abstract_state: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Reads a checkpoint into the shapes and layouts of `abstract_state`.

        Args:
          abstract_state: a pytree of jax.ShapeDtypeStruct with shardings.
          step: which; the newest by default.

        Returns:
          The state, and the record saved with it.

        Raises:
          CheckpointError: if there is none, if its shapes differ, or if its arrays are not those
            that were saved.
        """
        available = self.steps()
        step = self.latest_step() if step is None else step
        if step is None or step not in available:
            missing = "checkpoint" if step is None else f"checkpoint of step {step}"
            raise CheckpointError(f"{self.directory} has no {missing}; it has steps {available}.")
        flat = flatten(abstract_state)
        try:
            # Read separately, so that a damaged array cannot hide the record's own message.
            record = self._manager.restore(
                step, args=ocp.args.Composite(record=ocp.args.JsonRestore())
            )["record"]
            restored = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(flat))
            )["state"]
        except Exception as error:
            raise CheckpointError(
                f"the checkpoint of step {step} in {self.directory} cannot be read: "
                f"{_reason(error)}. {self._advice(step)}"
            ) from error
        recorded = record.get("digests", {})
        found = {name: int(value) for name, value in digests(restored).items()}
        found["record"] = _record_digest(record)
        for name in sorted({*found, *recorded}):
            if found.get(name) != recorded.get(name):
                raise CheckpointError(
                    f"the checkpoint of step {step} in {self.directory} is damaged: {name} does "
                    f"not have the digest it was saved with. {self._advice(step)}"
                )
        leaves, structure = jax.tree_util.tree_flatten(abstract_state, is_leaf=is_variable)
        values = [
            x.replace(restored[name]) if is_variable(x) else restored[name]
            for name, x in zip(flat, leaves, strict=True)
        ]
        return jax.tree_util.tree_unflatten(structure, values), record

    def _advice(self, step: int) -> str:
        others = [other for other in self.steps() if other != step]
        folder = self.directory / str(step)
        then = f"the run then goes on from step {others[-1]}" if others else "the run starts afresh"
        return f"Nothing was changed. Move {folder} away and start again; {then}."

    def _cannot_write(self, error: Exception) -> CheckpointError:
        free = shutil.disk_usage(self.directory).free if os.path.exists(self.directory) else 0
        return CheckpointError(
            f"the checkpoint of step {self._saving} could not be written to {self.directory}: "
            f"{_reason(error)}. {free / 1e9:.1f} GB are free there. "
            f"Checkpoints that are whole: {self.steps()}; start again to go on from the newest."
        )


def _record_digest(record: dict[str, Any]) -> int:
    """Returns the digest of the JSON record, its digests left out."""
    content = {name: value for name, value in record.items() if name != "digests"}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _reason(error: BaseException) -> str:
    """Returns the cause of an error of Orbax, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()).rstrip(".")
    return (text or type(error).__name__)[:300]
