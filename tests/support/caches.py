"""What JAX keeps of compiled programs is dropped between files, or a worker grows to gigabytes.

Tracing makes objects by the hundred thousand, nearly all of which are freed without a collector:
Python's looks for cycles less often than by default, or it takes a tenth of the time and more.
"""

import gc
import time
from collections.abc import Generator

import jax
import pytest

SECONDS = 60
"""Dropping takes two seconds and later files trace anew what they share, so it is done seldom."""

_dropped = time.process_time()


def pytest_configure() -> None:
    """Takes what is imported by now out of the collector's way, and has it run less often."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, None, None]:
    """Drops the caches after the last test of a file, if that or those before it took long."""
    global _dropped
    yield
    is_last = nextitem is None or nextitem.path != item.path
    if is_last and time.process_time() - _dropped > SECONDS:
        jax.clear_caches()
        # In a heap of gigabytes one automatic collection takes ten seconds.
        gc.collect()
        _dropped = time.process_time()
