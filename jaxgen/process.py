"""The set-up of a process, before it first uses a device."""

from __future__ import annotations

import ctypes
import os
import pathlib
import signal
import sys

import jax

from jaxgen import distributed

PARENT = "JAXGEN_PARENT_ID"
_SIGNAL_OF_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG of prctl(2)


def cache_folder() -> pathlib.Path:
    """Returns the folder of compiled programs: $JAXGEN_CACHE/xla, or ~/.cache/jaxgen/xla."""
    default = pathlib.Path.home() / ".cache" / "jaxgen"
    return pathlib.Path(os.environ.get("JAXGEN_CACHE", default)) / "xla"


def prepare_process() -> None:
    """Joins the other processes, keeps compiled programs on disk, and freed memory in the process.

    XLA on CPU allocates its temporaries anew at each step; glibc would return such large blocks to
    the kernel each time, which zeroes them again (docs/benchmarks.md has the cost).
    """
    stop_with_parent()
    distributed.start()
    keep_freed_memory()
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def stop_with_parent() -> None:
    """Asks the kernel for SIGTERM when the process that started this one is gone, on Linux.

    That is one whose id is in $JAXGEN_PARENT_ID: a supervisor that was killed can end nobody.
    """
    parent = os.environ.get(PARENT)
    if not sys.platform.startswith("linux") or str(os.getppid()) != parent:
        return
    ctypes.CDLL(None).prctl(_SIGNAL_OF_PARENTS_DEATH, signal.SIGTERM)
    if str(os.getppid()) != parent:  # It went meanwhile.
        signal.raise_signal(signal.SIGTERM)


def keep_freed_memory() -> None:
    """Tells glibc to keep large freed blocks; does nothing with another C library."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    arena_max, mmap_threshold, trim_threshold = -8, -3, -1
    mallopt(arena_max, 1)  # The arena of a worker thread has no room for such a block.
    mallopt(mmap_threshold, 2_000_000_000)
    mallopt(trim_threshold, 2_000_000_000)
