"""Disks that are full, on machines where a test may mount one."""

import contextlib
import subprocess
import sys

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own that holds 64 KiB."""
    with mounted(tmp_path / "disk", "64k") as folder:
        yield folder


@contextlib.contextmanager
def mounted(folder, size):
    """A new folder on a disk of its own; skips the test where none can be mounted."""
    folder.mkdir()
    if sys.platform != "linux":
        pytest.skip("a small disk is mounted on Linux alone")
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Writes until the disk is full, and returns the file that fills it."""
    path = folder / "filling"
    with pytest.raises(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return path
