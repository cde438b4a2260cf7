"""Files of the newest checkpoint that are cut short, changed or gone when it is read."""

from __future__ import annotations

import pathlib
import random
import signal
from collections.abc import Callable

from chaos_faults.faults.kind import Kind, Since
from chaos_faults.running import Running, is_alive


def damage(
    files: Callable[[pathlib.Path], list[pathlib.Path]],
    change: Callable[[pathlib.Path, random.Random], None],
) -> Callable[[Running, random.Random], None]:
    """Returns a fault that kills both processes and changes a file before the next ones read it."""

    def inject(run: Running, draw: random.Random) -> None:
        run.wait(run.checkpoints)
        process_ids = [run.trainer(process) for process in (0, 1)]
        run.send(signal.SIGKILL, 0, 1)
        run.wait(lambda: not any(map(is_alive, process_ids)))
        newest = run.directory.checkpoints / str(run.checkpoints()[-1])
        change(draw.choice(sorted(files(newest))), draw)

    return inject


def array_data(checkpoint: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files that hold arrays: those that are not small."""
    found = [path for path in (checkpoint / "state").rglob("d/*") if path.is_file()]
    return [path for path in found if path.stat().st_size > 20_000]


def metadata(checkpoint: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files that say where arrays are, and the record."""
    state = checkpoint / "state"
    return [checkpoint / "record" / "metadata", state / "_METADATA", state / "manifest.ocdbt"]


def every_file(checkpoint: pathlib.Path) -> list[pathlib.Path]:
    """Returns all files, whatever for."""
    return [path for path in checkpoint.rglob("*") if path.is_file()]


def cut(path: pathlib.Path, draw: random.Random) -> None:
    """Leaves a file's beginning."""
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(len(data))])


def flip(path: pathlib.Path, draw: random.Random) -> None:
    """Changes one bit."""
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def remove(path: pathlib.Path, draw: random.Random) -> None:
    """Removes a file."""
    del draw
    path.unlink()


def was_set_aside(since: Since) -> bool:
    """Returns whether a checkpoint was found damaged."""
    return since.happened("set aside")


KINDS = (
    Kind("a truncated file of a checkpoint", damage(every_file, cut), was_set_aside, at_least=6),
    Kind("a flipped bit in array data", damage(array_data, flip), was_set_aside, at_least=6),
    Kind("a flipped bit in metadata", damage(metadata, flip), was_set_aside, at_least=6),
    Kind("a missing file of a checkpoint", damage(every_file, remove), was_set_aside, at_least=6),
)
