"""data.json: the files that a run reads, so that a change of them between two starts is noticed.

A file that was held out must not become one that is trained on, and the batches of a run that is
continued must be those of one that was never stopped.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxgen.data.storage import root_of, sampled_digest, stamp_of
from jaxgen.errors import DataError, MissingDataError
from jaxgen.files import write_atomically
from jaxgen.json_values import read_json

Files = dict[str, list[str]]
"""Name below the pattern's folder to its stamp (size and time) and the digest of its content."""
SHOWN, GONE = 5, " is gone"


def describe_data(sources: Mapping[str, Any], before: dict[str, Files]) -> dict[str, Files]:
    """Returns the files of each source.

    Args:
      sources: by the name of their task.
      before: what was returned earlier; the content of a file of the same stamp is not read again.
    """
    return {name: _files_of(source, before.get(name, {})) for name, source in sources.items()}


def check_data(
    path: pathlib.Path, sources: Mapping[str, Any], is_new: bool, accepts_change: bool
) -> list[str]:
    """Writes data.json, and compares with the one that is there.

    Args:
      path: of data.json.
      sources: those of the run's data, by the name of their task.
      is_new: whether the run has not begun, so that nothing is compared.
      accepts_change: whether to go on with other files.

    Returns:
      A line for each change, such as "prose: b.txt is new".

    Raises:
      DataError: if there are any, unless they are accepted.
      MissingDataError: if files are gone or out of reach, and nothing else has changed.
    """
    before = {} if is_new else _recorded(path)
    try:
        now = describe_data(sources, before)
    except DataError as error:
        if is_new:
            raise
        raise MissingDataError(str(error)) from error
    changes = [
        f"{task}: {line}" for task in before for line in _changes(before[task], now.get(task, {}))
    ]
    if changes and not accepts_change:
        shown = "\n  ".join(changes[:SHOWN])
        more = f"\n  and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        are_gone = all(change.endswith(GONE) for change in changes)
        raise (MissingDataError if are_gone else DataError)(
            f"the data of the run in {path.parent} has changed since it was started:\n  {shown}"
            f"{more}\nWhat is held out may have been trained on, and the batches would be others. "
            "Put the files back, or start a new run; to go on with them as they are, give "
            "--gin.execution.accept_changed_data=True, which the run's history records."
        )
    write_atomically(path, json.dumps(now, indent=1) + "\n")
    return changes


def _recorded(path: pathlib.Path) -> dict[str, Files]:
    fix = "restore it from a copy, or remove it to take the data as they are now"
    try:
        return read_json(path, {str: {str: _check_stamp}}, fix, DataError)
    except FileNotFoundError:
        return {}


def _check_stamp(value: Any) -> None:
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)):
        raise ValueError("must be a stamp and a digest")


def _files_of(source: Any, before: Files) -> Files:
    if not hasattr(source, "files"):
        digest = getattr(source, "content_digest", None)
        return {} if digest is None else {"": ["", digest()]}
    root, found = root_of(source.pattern), {}
    for file in source.files():
        name, stamp = file.removeprefix(root).lstrip("/"), stamp_of(file)
        known = before.get(name, ["", ""])
        found[name] = [stamp, known[1] if known[0] == stamp else sampled_digest(file)]
    return found


def _changes(before: Files, now: Files) -> list[str]:
    lines = [f"{name or 'it'}{GONE}" for name in sorted(before.keys() - now.keys())]
    lines += [f"{name} is new" for name in sorted(now.keys() - before.keys())]
    kept = sorted(before.keys() & now.keys())
    return lines + [f"{name or 'it'} differs" for name in kept if before[name][1] != now[name][1]]
