"""Loading packed batches: jaxgen beside plain Grain and PyTorch's DataLoader, one core each.

python tools/bench/loading.py [--length 1024] [--batch_size 16] [--seconds 10] [--memory_rows N]

All read the same tokenised documents (Python's standard library as bytes, memory-mapped) in a
shuffled order and give batches of packed rows. Plain Grain is shuffle, concatenate-and-split,
batch; PyTorch is a DataLoader over `datasets` rows that were packed beforehand (where both are
installed).
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.embedded import StandardLibraryCode
from jaxgen.data.mixtures import Mixture
from jaxgen.data.rows import open_store
from jaxgen.data.tasks import Task

TASK = Task("code", StandardLibraryCode())


def jaxgen_batches(length: int, batch_size: int) -> Iterator[Any]:
    """A mixture of one task, as training reads it."""
    return Mixture("m", (TASK,)).open(batch_size=batch_size, length=length, seed=0).iterate()


class Documents:
    """The stored documents as a Grain source."""

    def __init__(self):
        self._store = open_store(TASK, "train")

    def __len__(self) -> int:
        return len(self._store.lengths)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        ids = self._store.example(int(index)).ids
        codec = ByteCodec()
        return {
            "tokens": np.concatenate([[codec.begin_id], ids]).astype(np.int32),
            "targets": np.concatenate([ids, [codec.end_id]]).astype(np.int32),
        }


def grain_batches(length: int, batch_size: int) -> Iterator[Any]:
    """Grain's own packing of the same documents."""
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    documents = grain.MapDataset.source(Documents()).seed(0).shuffle().repeat()
    packed = grain.experimental.ConcatThenSplitIterDataset(
        documents.to_iter_dataset(options),
        length_struct={"tokens": length, "targets": length},
    )
    return iter(packed.batch(batch_size))


def packed_rows(length: int) -> list[dict[str, list[int]]]:
    """Two thousand rows, or an epoch of them, packed beforehand."""
    data = Mixture("m", (TASK,)).open(batch_size=1, length=length, seed=0)
    fields = ("tokens", "targets", "positions", "segment_ids")
    batches = (vars(data.batch(step)) for step in range(min(2000, data.rows_per_epoch["code"])))
    return [{name: batch[name][0].tolist() for name in fields} for batch in batches]


def rows_per_second(batches: Iterator[Any], batch_size: int, seconds: float) -> float:
    """Rows that come in a second of processor time."""
    for _ in range(20):
        next(batches)
    count, started, begun = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - begun < seconds:
        next(batches)
        count += batch_size
    return count / (time.process_time() - started)


def main() -> None:
    """Prints rows a second of one core, and how the memory grows over many rows."""
    parser = argparse.ArgumentParser(description="Loading packed batches.")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--memory_rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    candidates: dict[str, Callable[[int, int], Iterator[Any]]] = {
        "jaxgen": jaxgen_batches,
        "plain Grain": grain_batches,
    }
    try:
        from peers.torch_loader import torch_batches
    except ImportError:
        print("PyTorch or datasets is not installed: no row for them")
    else:
        candidates["PyTorch DataLoader"] = lambda length, batch_size: torch_batches(
            packed_rows(length), batch_size
        )
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(3):
        for name, make in candidates.items():
            batches = make(arguments.length, arguments.batch_size)
            found[name].append(
                rows_per_second(batches, arguments.batch_size, arguments.seconds / 3)
            )
    table = Table(title=f"rows of {arguments.length}, batches of {arguments.batch_size}")
    for heading in ("", "rows/s of a core", "time / plain Grain"):
        table.add_column(heading, justify="left" if not heading else "right")
    middle = {name: sorted(rates)[1] for name, rates in found.items()}
    for name, rate in middle.items():
        table.add_row(name, f"{rate:,.0f}", f"{middle['plain Grain'] / rate:.2f}")
    Console().print(table)
    _memory(arguments)


def _memory(arguments: argparse.Namespace) -> None:
    """The largest memory after a tenth of the rows and after all."""
    batches = jaxgen_batches(arguments.length, arguments.batch_size)
    marks = {}
    total = arguments.memory_rows // arguments.batch_size
    for number, _ in enumerate(itertools.islice(batches, total), start=1):
        if number in (max(1, total // 10), total):
            marks[number] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (first, before), (last, after) = sorted(marks.items())
    print(
        f"memory: {before:,.0f} MB after {first * arguments.batch_size:,} rows, {after:,.0f} MB "
        f"after {last * arguments.batch_size:,} ({after / before - 1:+.1%})"
    )


if __name__ == "__main__":
    main()
