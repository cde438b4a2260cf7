"""Reads a checkpoint's files, and tells damage from other reasons why that fails."""

from __future__ import annotations

import functools
import gc
import json
import pathlib
import sys
import warnings
from typing import Any

import orbax.checkpoint as ocp
from etils import epath

from jaxgen import distributed
from jaxgen.errors import CheckpointError, DamagedCheckpointError

DAMAGE = ("DATA_LOSS", "OUT_OF_RANGE", "NOT_FOUND", "FAILED_PRECONDITION", "INVALID_ARGUMENT")
"""What TensorStore says of files that are cut short, changed or gone."""


def read_checkpoint(
    folder: pathlib.Path, flat: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arrays and the record of a checkpoint, unchecked; call it on all processes.

    Each process reads by itself what it needs, and tells the others how that went: one that cannot
    read must not leave them waiting for it.

    Args:
      folder: of the checkpoint.
      flat: names to jax.ShapeDtypeStruct with shardings; other arrays, such as an optimizer's, are
        not read.

    Raises:
      CheckpointError: with the cause, the same on all processes.
      DamagedCheckpointError: if files are surely not what was saved.
    """
    restored, record, problem = {}, {}, None
    _silence_late_reads()
    try:
        # Read separately, so that a damaged array cannot hide the record's own message.
        record = json.loads((folder / "record" / "metadata").read_text())
        asked = ocp.args.PyTreeRestore(
            flat,
            restore_args=ocp.checkpoint_utils.construct_restore_args(flat),
            partial_restore=True,
        )
        restored = ocp.PyTreeCheckpointHandler().restore(epath.Path(folder / "state"), args=asked)
    except Exception as error:
        problem = (cause_of(error), _is_damage(error))
        del error
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
            gc.collect()  # Tasks that failed, or did not begin, tell it when they go.
    problems = [one for one in distributed.gather(problem) if one is not None]
    if problems:
        kind = DamagedCheckpointError if any(bad for _, bad in problems) else CheckpointError
        raise kind(problems[0][0])
    return restored, record


def cause_of(error: BaseException) -> str:
    """Returns the cause of an error of Orbax, on one line."""
    error = _first(error)
    text = " ".join(str(error).split()).rstrip(".")
    return (text or type(error).__name__)[:300]


def _is_damage(error: BaseException) -> bool:
    """Returns whether files are surely not what was saved.

    Anything else, such as a file system out of reach, is no reason to take another checkpoint.
    """
    error = _first(error)
    if isinstance(error, UnicodeDecodeError | json.JSONDecodeError | KeyError | FileNotFoundError):
        return True
    return any(code in str(error) for code in DAMAGE)


def _first(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@functools.cache
def _silence_late_reads() -> None:
    """Leaves out exceptions of threads whose results nobody awaits any more.

    Where one array cannot be read, TensorStore goes on with the others, and complains of each that
    the loop which had asked for it is closed.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            before(unraisable)

    sys.unraisablehook = hook
