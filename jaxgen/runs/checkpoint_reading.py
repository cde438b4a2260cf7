"""Reads a checkpoint's files, and tells damage from other reasons why that fails."""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import pathlib
import sys
import warnings
import zlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from jaxgen import distributed
from jaxgen.errors import CheckpointError, DamagedCheckpointError, UnreadableCheckpointError
from jaxgen.training.digests import digests

DAMAGE = (
    "DATA_LOSS", "OUT_OF_RANGE", "NOT_FOUND", "FAILED_PRECONDITION", "INVALID_ARGUMENT",
    "Error decoding",
)  # fmt: skip
"""What TensorStore says of files that are cut short, changed or gone."""
OUT_OF_REACH = (
    "PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED",
    "ABORTED", "RESOURCE_EXHAUSTED", "[OS error",
)  # fmt: skip
"""What it says of a file system or a store that does not give files, whole as they may be."""
PARAMETERS = "model."
"""What the names of a checkpoint's parameters begin with."""
KINDS = (DamagedCheckpointError, CheckpointError, UnreadableCheckpointError)
"""The errors of one that cannot be read; where processes differ, the first of these counts."""


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
      UnreadableCheckpointError: if they may be, as its reader does not say what is wrong with them.
    """
    restored, record, problem = {}, {}, None
    silence_late_results()
    try:
        # Read separately, so that a damaged array cannot hide the record's own message.
        record = json.loads((folder / "record" / "metadata").read_text())
        asked = ocp.args.PyTreeRestore(
            flat,
            restore_args=ocp.checkpoint_utils.construct_restore_args(flat),
            partial_restore=True,
        )
        restored = ocp.PyTreeCheckpointHandler().restore(epath.Path(folder / "state"), args=asked)
        _check_names(restored, record.get("digests", {}))
    except Exception as error:
        problem = (KINDS.index(_kind_of(error)), cause_of(error))
        del error
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
            gc.collect()  # Tasks that failed, or did not begin, tell it when they go.
    problems = [one for one in distributed.gather(problem) if one is not None]
    if problems:
        kind, cause = min(problems)
        raise KINDS[kind](cause)
    return restored, record


def parameters_digest(folder: pathlib.Path) -> str:
    """Returns what tells the model's parameters in a checkpoint from others, of its record alone.

    Raises:
      CheckpointError: if the record cannot be read.
    """
    try:
        record = json.loads((folder / "record" / "metadata").read_text())
        marks = {
            name: int(value)
            for name, value in record["digests"].items()
            if name.startswith(PARAMETERS)
        }
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"the record of the checkpoint in {folder}: {error!r}") from error
    content = json.dumps(marks, sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def changed_part(restored: dict[str, Any], record: dict[str, Any]) -> str | None:
    """Returns the first array, or "record", that is not what was saved; None if all are."""
    recorded = record.get("digests", {})
    found = {name: int(value) for name, value in digests(restored).items()}
    found["record"] = record_digest(record)
    return next((name for name in sorted(found) if found[name] != recorded.get(name)), None)


def record_digest(record: dict[str, Any]) -> int:
    """Returns the digest of the JSON record, its digests left out."""
    content = {name: value for name, value in record.items() if name != "digests"}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _check_names(restored: dict[str, Any], recorded: dict[str, Any]) -> None:
    """Raises CheckpointError if there are arrays that the reader did not find, and left out."""
    missing = sorted(name for name, one in restored.items() if not isinstance(one, jax.Array))
    if not missing:
        return
    if missing[0] in recorded:
        raise DamagedCheckpointError(f"its array {missing[0]} is gone")
    raise UnreadableCheckpointError(f"no array {missing[0]} was saved with it")


def cause_of(error: BaseException) -> str:
    """Returns the cause of an error of Orbax, on one line."""
    error = _first(error)
    text = " ".join(str(error).split()).rstrip(".")
    return (text or type(error).__name__)[:300]


def _kind_of(error: BaseException) -> type[CheckpointError]:
    """Returns whether files are surely not what was saved, out of reach, or perhaps damaged.

    A file system out of reach is no reason to take another checkpoint.
    """
    error = _first(error)
    text = str(error)
    if isinstance(error, CheckpointError):
        return type(error)
    if isinstance(error, UnicodeDecodeError | json.JSONDecodeError | KeyError | FileNotFoundError):
        return DamagedCheckpointError
    if any(code in text for code in DAMAGE):
        return DamagedCheckpointError
    if isinstance(error, OSError) or any(code in text for code in OUT_OF_REACH):
        return CheckpointError
    return UnreadableCheckpointError


def _first(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@functools.cache
def silence_late_results() -> None:
    """Leaves out exceptions of threads whose results nobody awaits any more.

    Where one array cannot be read or written, TensorStore goes on with the others, and complains of
    each that the loop which had asked for it is closed.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            before(unraisable)

    sys.unraisablehook = hook
