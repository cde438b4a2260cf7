"""Keeps the programs that a test process holds below what Linux can map."""

import gc
import pathlib

import jax
import pytest

MOST_MAPPINGS = 25_000
"""Linux allows 65,530 mappings of a process (vm.max_map_count); beyond them XLA crashes."""


@pytest.fixture(autouse=True, scope="module")
def few_mappings():
    """Forgets compiled programs after a module, where they have become many.

    Each takes some mappings, and thousands of tests in one process compile thousands. The shared
    compilation cache has them, should a later module ask again.
    """
    yield
    if num_mappings() > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()


def num_mappings() -> int:
    """Returns how many this process has; 0 where the system does not say."""
    maps = pathlib.Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0
