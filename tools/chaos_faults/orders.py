"""What the harness and the processes of a round tell one another, in small files of one folder.

observed-0   what process 0 does: its phase, the last step it completed, and its process id
clock        seconds by which the clocks of all processes of the round differ from the machine's
late-1       seconds that process 1 waits before it joins the others, once
poisoned     numbers of the batches, in the data's order, whose gradient is not a number
"""

from __future__ import annotations

import mmap
import os
import pathlib
import struct
from typing import NamedTuple

FOLDER = "CHAOS_ORDERS"
"""Names the folder in the environment of the processes."""
LAYOUT = struct.Struct("<16siq")


class Observed(NamedTuple):
    """What a process does."""

    phase: str
    step: int
    process_id: int


class Observer:
    """Tells what this process does, in a file that is mapped: a process may be killed in it."""

    def __init__(self, folder: pathlib.Path, process: int):
        path = folder / f"observed-{process}"
        path.write_bytes(bytes(LAYOUT.size))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), LAYOUT.size)

    def tell(self, phase: str, step: int) -> None:
        """Says which phase begins, and the last step completed."""
        LAYOUT.pack_into(self._map, 0, phase.encode(), step, os.getpid())


def read_observed(folder: pathlib.Path, process: int) -> Observed | None:
    """Returns what a process does; None before it has begun."""
    try:
        data = (folder / f"observed-{process}").read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < LAYOUT.size:
        return None
    phase, step, process_id = LAYOUT.unpack(data)
    return Observed(phase.rstrip(b"\0").decode(), step, process_id) if process_id else None


def read_numbers(path: pathlib.Path) -> list[float]:
    """Returns the numbers of a file, or none where there is no file."""
    try:
        return [float(word) for word in path.read_text().split()]
    except FileNotFoundError:
        return []


def write_numbers(path: pathlib.Path, numbers: list[float]) -> None:
    """Replaces a file of numbers in one piece."""
    part = path.with_name(f".{path.name}")
    part.write_text(" ".join(map(repr, numbers)))
    os.replace(part, path)
