"""`jaxgen status`: where runs stand, in folders here or in an object store."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from jaxgen.commands.runs import state_of
from jaxgen.data.storage import is_remote, matching_files, modified_at, open_binary
from jaxgen.errors import CheckpointError, DataError
from jaxgen.runs.history import read_starts
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.sharding.mesh import split_axes
from jaxgen.training.heartbeat import is_stuck, read_heartbeats
from jaxgen.training.tracking import clock, si

FILES = ("config.gin", "run.json", "metrics.jsonl", "history.jsonl")


def status(arguments: argparse.Namespace) -> int:
    """Prints what each run is doing and how it got there. Returns 1 if one of them failed.

    Args:
      arguments: `run_dirs`.
    """
    failed = False
    for name in arguments.run_dirs:
        with _local(name) as directory:
            record = directory.read_record()
            print("\n".join(_lines(name, directory, record)))
            failed = failed or "failed" in record
    return int(failed)


@contextlib.contextmanager
def _local(name: str) -> Iterator[RunDirectory]:
    """Gives the run's directory, or a copy of its small files if it is in an object store."""
    if not is_remote(name):
        yield RunDirectory(name)
        return
    url = name.rstrip("/")
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(folder)
        for file in FILES:
            with contextlib.suppress(DataError), open_binary(f"{url}/{file}") as stream:
                (directory.path / file).write_bytes(stream.read())
                at = modified_at(f"{url}/{file}")
                os.utime(directory.path / file, (at, at))
        if not directory.run_file.exists():
            raise CheckpointError(f"{name} is not a run directory: it has no run.json.")
        with contextlib.suppress(DataError):
            # Orbax writes this file into a checkpoint last.
            _, found = matching_files(f"{url}/checkpoints/*/_CHECKPOINT_METADATA", ("",))
            for file in found:
                (directory.checkpoints / file.split("/")[-2]).mkdir(parents=True, exist_ok=True)
        yield directory


def _lines(name: str, directory: RunDirectory, record: dict[str, Any]) -> Iterator[str]:
    rows = read_metrics(directory.metrics_file)
    last, total = (rows[-1] if rows else {}), record.get("steps")
    step = last.get("step", 0)
    state = state_of(directory, record, bool(rows))
    parts = [state]
    parts.append(f"step {step:,} of {total:,} ({100 * step / total:.0f} %)" if total else "")
    if last.get("loss") is not None:
        parts.append(f"loss {last['loss']:.4f}")
    if last.get("tokens_per_second"):
        parts.append(f"{si(last['tokens_per_second'])}tokens/s")
    if last.get("seconds_left") and not record.get("finished"):
        parts.append(f"{clock(last['seconds_left'])} left")
    yield f"{name}: " + ", ".join(part for part in parts if part)
    if rows:
        at = directory.metrics_file.stat().st_mtime
        goodput = f"; goodput {100 * last['goodput']:.0f} %" if "goodput" in last else ""
        yield f"  last row {clock(max(0.0, time.time() - at))} ago{goodput}"
    if state == "running":
        yield from _heartbeats(directory)
    if starts := read_starts(directory.history_file):
        yield f"  {_start(starts)}"
    if steps := directory.saved_steps():
        yield f"  checkpoints of steps {', '.join(f'{one:,}' for one in steps)}"
    if "failed" in record:
        yield f"  failed: {record['failed']}"


def _heartbeats(directory: RunDirectory) -> Iterator[str]:
    """Yields a line for each process of a run that is at work."""
    now = time.time()
    for beat in read_heartbeats(directory.path):
        ago = clock(max(0.0, now - beat["time"]))
        stalled = "; stalled" if is_stuck(beat, now) else ""
        yield (
            f"  process {beat['process']}: step {beat['step']:,} completed, {beat['phase']}, "
            f"last heartbeat {ago} ago{stalled}"
        )


def _start(starts: list[dict[str, Any]]) -> str:
    last = starts[-1]
    times = "started once" if len(starts) == 1 else f"started {len(starts)} times, last"
    return (
        f"{times} at {last.get('started')} from step {last.get('step')} on {last.get('host')}: "
        f"{last.get('num_devices')} device(s), {split_axes(last.get('mesh', {})) or 'not split'}"
    )
