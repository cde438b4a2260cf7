"""The texts that come with Python."""

import gc
import sys
import threading

import pytest

from jaxgen.data.embedded import StandardLibraryProse


def _deeper(frames: int, call):
    return call() if frames == 0 else _deeper(frames - 1, call)


@pytest.fixture
def busy_collector():
    """Makes every collection run Python code that other threads may interrupt, as JAX's does."""
    interval = sys.getswitchinterval()

    def collected(phase, info):
        sum(range(200))

    gc.callbacks.append(collected)
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)
    gc.callbacks.remove(collected)


@pytest.mark.slow
def test_threads_read_the_prose_at_the_same_time(busy_collector):
    read: list[list[str]] = []

    def work():
        read.append([record["path"] for record in StandardLibraryProse().read("heldout")])

    # Each thread at a depth of its own: the depths are what CPython mistakes for one another.
    threads = [threading.Thread(target=_deeper, args=(20 * place, work)) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 3 and read[0] == read[1] == read[2] and read[0]
