"""Rows that a model makes, kept in a file a batch at a time, so that a command goes on with it."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxgen.data.preprocessors import record_key
from jaxgen.data.protocols import Record
from jaxgen.errors import ConfigError, DataError
from jaxgen.files import append_rows, read_rows, write_atomically
from jaxgen.json_values import read_json
from jaxgen.posttraining.writing import Write


def append_made(
    records: Iterable[Record],
    rows: Callable[[Sequence[Record]], list[Record]],
    settings: Any,
    output: Path,
    batch_size: int,
    writer: object,
) -> int:
    """Appends the rows of records that the file does not have yet; returns how many.

    Args:
      records: in a fixed order.
      rows: makes the rows of a batch.
      settings: a dataclass; beside the file stands a note of it, and of what follows here.
      output: a JSON-lines file.
      batch_size: records at a time.
      writer: names the model.

    Raises:
      ConfigError: if the file was begun with other settings.
    """
    _check_settings(settings, output, batch_size, writer)
    done = read_rows(output)
    # Whole batches are written at once, so those that are left are made as they would have been.
    left = iter(records)
    for row, record in zip(done, left, strict=False):
        if row.get("key") != record_key(record):
            raise ConfigError(
                f"{output} has a row of {row.get('key')!a:.60} where the record is "
                f"{record_key(record)!a:.60}: it was made of other records; name another file."
            )
    count = 0
    for batch in batches(left, batch_size):
        append_rows(output, rows(batch))
        count += len(batch)
    return count


def _check_settings(settings: Any, output: Path, batch_size: int, writer: object) -> None:
    """Refuses to go on with a file that was begun otherwise."""
    note = output.with_name(output.name + ".settings.json")
    now = {**dataclasses.asdict(settings), "batch_size": batch_size, "writer": str(writer)}
    now = json.loads(json.dumps(now))
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, json.dumps(now, indent=1))
        return
    fix = f"name another file than {output}, or delete both"
    try:
        before = read_json(note, dict, fix, ConfigError)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{output} is there without {note.name}, which tells how it was made; {fix}."
        ) from None
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if changed:
        told = ", ".join(f"{n} was {before.get(n)!a:.60}, is {now.get(n)!a:.60}" for n in changed)
        raise ConfigError(f"{output} was begun with other settings: {told}; {fix}.")


def batches(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    """Yields so many records at a time, the last time what is left."""
    stream = iter(records)
    while batch := list(itertools.islice(stream, size)):
        yield batch


def written(write: Write, prompts: Sequence[str]) -> list[str]:
    """Returns what a model writes; raises DataError if that is not a text for each prompt."""
    texts = list(write(prompts)) if prompts else []
    if len(texts) != len(prompts):
        raise DataError(f"the model wrote {len(texts)} texts for {len(prompts)} prompts.")
    return texts
