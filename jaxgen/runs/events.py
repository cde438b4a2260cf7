"""Events: what happened to a run while it trained, told and kept in history.jsonl."""

from __future__ import annotations

import datetime
import pathlib
import warnings
from typing import Any

from jaxgen import distributed
from jaxgen.errors import JaxgenWarning
from jaxgen.files import append_rows


def keep_event(path: pathlib.Path, event: dict[str, Any]) -> None:
    """Tells a person of an event, and appends it to history.jsonl; call it on all processes.

    Args:
      path: of history.jsonl.
      event: "event" is its kind: "rewind", "skipped update", "set aside" or "mirror".
    """
    distributed.on_main(append_event, path, event)
    tell_event(event)


def append_event(path: pathlib.Path, event: dict[str, Any]) -> None:
    """Appends an event to history.jsonl, with the time."""
    append_rows(path, [{"time": datetime.datetime.now(datetime.UTC).isoformat(), **event}])


def tell_event(event: dict[str, Any]) -> None:
    """Tells a person of an event, once for all processes."""
    if distributed.is_main():
        warnings.warn(describe_event(event), JaxgenWarning, stacklevel=3)


def describe_event(event: dict[str, Any]) -> str:
    """Returns an event as a sentence."""
    if event["event"] == "set aside":
        return f"{event['why']} It was moved to {event['to']}."
    if event["event"] == "mirror":
        return event["why"]
    if event["event"] == "rewind":
        first, last = event["steps"]
        to, count = event["skip"]
        return (
            f"the loss diverged in steps {first} to {last}: the run goes back to step {to} and "
            f"leaves out {count} batches (train.divergence)."
        )
    rows = ", ".join(map(str, event["rows"])) or "none by itself"
    return (
        f"{event['where']} is not finite at step {event['step']} (batch {event['batch']}, rows: "
        f"{rows}); the update was skipped."
    )
