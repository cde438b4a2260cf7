"""What a run needs of its machine: room on the disk, its data, a clock; and sound arithmetic."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable

from chaos_faults import orders
from chaos_faults.faults.kind import Kind, NotPossibleError, Since
from chaos_faults.running import Running
from jaxgen.runs.history import read_rewinds
from jaxgen.training.divergence import Skip, data_step


def fill_disk(run: Running, draw: random.Random) -> None:
    """Fills the disk of the run directory until a save or two have failed."""
    printed, failures = run.log.stat().st_size, draw.choice([1, 2])
    with _FullDisk(run):
        run.wait(lambda: run.printed(printed).count("could not be written") >= failures)
    saved = run.checkpoints()[-1:]
    run.wait(lambda: run.checkpoints()[-1:] > saved)


def fill_disk_and_kill(run: Running, draw: random.Random) -> None:
    """Fills the disk, and kills both processes; the next ones find no room either for a while."""
    seconds = draw.uniform(4, 20)
    with _FullDisk(run):
        run.send(signal.SIGKILL, 0, 1)
        run.sleep(seconds)


class _FullDisk:
    """Leaves no room on the disk of a run, while it is entered."""

    def __init__(self, run: Running):
        if not os.path.ismount(run.workload.run_dir):
            raise NotPossibleError("only root may mount a small disk")
        self._path = run.workload.run_dir / ".filler"

    def __enter__(self) -> None:
        with open(self._path, "wb", buffering=0) as file:
            for size in (2**20, 4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def __exit__(self, *error: object) -> None:
        self._path.unlink()


def hide_shard(run: Running, draw: random.Random) -> None:
    """Takes a file of the data away, kills both processes, and brings it back after a while."""
    shard = draw.choice(sorted(run.workload.data.glob("*.jsonl")))
    seconds = draw.uniform(9, 25)  # A start looks for it after five.
    away = shard.with_suffix(".away")
    os.rename(shard, away)
    try:
        run.send(signal.SIGKILL, 0, 1)
        run.sleep(seconds)
    finally:
        os.rename(away, shard)


def poison(run: Running, draw: random.Random) -> None:
    """Makes the gradient of one batch soon to come not a number."""
    assert run.now is not None
    skips = [Skip(after, count) for after, count in read_rewinds(run.directory.history_file)]
    batch = data_step(run.now.step + draw.randint(2, 6), skips)
    path = run.workload.orders / "poisoned"
    orders.write_numbers(path, [*orders.read_numbers(path), batch])


def turn_clock(direction: int) -> Callable[[Running, random.Random], None]:
    """Returns a fault that sets the clock of all processes back (-1), or forward (1)."""

    def inject(run: Running, draw: random.Random) -> None:
        path = run.workload.orders / "clock"
        (now,) = orders.read_numbers(path)
        orders.write_numbers(path, [now + direction * draw.uniform(60, 7200)])
        run.sleep(2.0)

    return inject


def was_told_of_disk(since: Since) -> bool:
    """Returns whether a save that failed was told of, or a start that could not write."""
    words = ("could not be written", "cannot be written", "cannot write", "disk is full")
    return any(word in since.printed for word in words)


def was_told_of_shard(since: Since) -> bool:
    """Returns whether the missing file was named."""
    return ".jsonl is gone" in since.printed


KINDS = (
    Kind("a full disk", fill_disk, was_told_of_disk, resumes=False, at_least=6),
    Kind("a full disk, and SIGKILL", fill_disk_and_kill, was_told_of_disk, at_least=6),
    Kind("a shard of data gone for a while, and SIGKILL", hide_shard, was_told_of_shard),
    Kind(
        "a gradient that is not a number",
        poison,
        lambda since: since.happened("rewind"),
        needs="replay",
        at_least=7,
    ),
    Kind("the clock set back", turn_clock(-1), None, resumes=False),
    Kind("the clock set forward", turn_clock(1), None, resumes=False),
)
