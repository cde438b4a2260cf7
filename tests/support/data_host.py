"""A host that reads its share of a mixture's batches, as a process of its own.

python tests/support/data_host.py FIRST_STEP STEPS HOST HOSTS WORKERS KILL_AT -> a line of JSON a
batch. At the batch KILL_AT (-1: never) one of the host's own workers is killed with SIGKILL.
"""

import functools
import itertools
import json
import os
import signal
import sys
import zlib

import numpy as np

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.special import SpecialTokens
from jaxgen.data.denoising import SpanCorruption
from jaxgen.data.features import PromptAnswer, Text
from jaxgen.data.generated import Addition
from jaxgen.data.mixtures import Mixture, MixtureStage
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task

BATCH = 8
TEXTS = tuple({"text": f"document {i} " * (i % 7 + 1)} for i in range(300))


def mixture() -> Mixture:
    """Text cut into rows, text with spans drawn anew, sums made on the spot; the shares change."""
    codec = ByteCodec(SpecialTokens())
    tasks = (
        Task("text", InMemory(TEXTS, 0.1), codec=codec),
        Task("spans", InMemory(TEXTS, 0.1), Text(denoising=SpanCorruption()), codec),
        Task("sums", Addition(2), PromptAnswer(), codec),
    )
    weights = {"text": 0.5, "spans": 0.3, "sums": 0.2}
    return Mixture("m", tasks, weights, stages=(MixtureStage(6, weights | {"sums": 2.0}),))


def digests(batch) -> list[int]:
    """One number a row, of all its arrays."""
    arrays = [v for v in vars(batch).values() if isinstance(v, np.ndarray)]
    return [zlib.crc32(b"".join(a[row].tobytes() for a in arrays)) for row in range(len(arrays[0]))]


def children() -> list[int]:
    """Processes that this one has started, but Python's own helpers."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stat, open(f"/proc/{name}/cmdline") as command:
                is_child = int(stat.read().rsplit(")", 1)[1].split()[1]) == os.getpid()
                if is_child and "resource_tracker" not in command.read():
                    found.append(int(name))
        except OSError:
            continue
    return found


def rows_of_host(host: int, hosts: int, batch_size: int) -> range:
    """Every `hosts`-th row, as in gradient accumulation a host's rows are not one stretch."""
    return range(host, batch_size, hosts)


def main() -> None:
    first, steps, host, hosts, workers, kill_at = (int(word) for word in sys.argv[1:])
    data = mixture().open(batch_size=BATCH, length=64, seed=0)
    rows = functools.partial(rows_of_host, host, hosts)
    batches = data.iterate(first, rows=rows, num_workers=workers)
    for step, batch in enumerate(itertools.islice(batches, steps)):
        print(json.dumps(digests(batch)), flush=True)
        if step == kill_at:
            os.kill(children()[0], signal.SIGKILL)


if __name__ == "__main__":
    main()
