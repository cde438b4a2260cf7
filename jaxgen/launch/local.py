"""A command in several processes of this machine, which find one another as those of a pod do."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

GRACE_SECONDS = 10.0
"""How long the others may take to end by themselves after one has failed, and after SIGTERM."""


def run_processes(
    command: Sequence[str],
    processes: int,
    devices_per_process: int,
    platform: Literal["cpu", "gpu"] = "cpu",
) -> int:
    """Runs a command in several processes and waits for all.

    The first process prints as it would alone; lines of the others go to standard error with their
    number before them. SIGINT and SIGTERM are passed on to each. When one fails, the others are
    ended.

    Args:
      command: its words.
      processes: how many.
      devices_per_process: on "cpu" devices that are simulated, on "gpu" those with the numbers
        that follow those of the process before.
      platform: of the devices.

    Returns:
      The exit status: 0, or that of the first process that failed.
    """
    address = f"127.0.0.1:{free_port()}"
    children, readers = [], []
    for index in range(processes):
        group = {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(index),
        }
        devices = range(index * devices_per_process, (index + 1) * devices_per_process)
        if platform == "cpu":
            group |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices_per_process)}
        else:
            group |= {"JAX_LOCAL_DEVICE_IDS": ",".join(map(str, devices))}
        child = _start(command, os.environ | group, is_main=index == 0)
        children.append(child)
        if index:
            reader = threading.Thread(target=_pass_on, args=(child, index), daemon=True)
            reader.start()
            readers.append(reader)
    with _Forwarding(children):
        status = _wait(children)
    for reader in readers:
        reader.join(GRACE_SECONDS)  # A grandchild may hold the pipe open for longer.
    return status


def _start(
    command: Sequence[str], environment: dict[str, str], is_main: bool
) -> subprocess.Popen[str]:
    piped: dict[str, Any] = (
        {} if is_main else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    )
    return subprocess.Popen(
        command,
        env=environment,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches it once: from here.
        **piped,
    )


def _pass_on(child: subprocess.Popen[str], index: int) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        print(f"[{index}] {line}", end="", file=sys.stderr, flush=True)


def _wait(children: list[subprocess.Popen[str]]) -> int:
    """Returns 0 when all have ended, or the status of the first that failed, having ended all."""
    failed = 0
    while not failed and None in (found := [child.poll() for child in children]):
        failed = next((status for status in found if status), 0)
        time.sleep(0.05)
    _end(children)
    failed = failed or next((child.returncode for child in children if child.returncode), 0)
    return 128 - failed if failed < 0 else failed


def _end(children: list[subprocess.Popen[str]]) -> None:
    """Waits for all to end by themselves, then after SIGTERM, then kills those that are left."""
    for ask in (None, subprocess.Popen.terminate, subprocess.Popen.kill):
        deadline = time.monotonic() + GRACE_SECONDS
        for child in children:
            if ask is not None:
                ask(child)
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))


class _Forwarding:
    """Passes SIGINT and SIGTERM on to children, while it is entered."""

    def __init__(self, children: list[subprocess.Popen[str]]):
        self._children = children
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._forward)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _forward(self, number: int, frame: Any) -> None:
        del frame
        for child in self._children:
            child.send_signal(number)


def free_port() -> int:
    """Returns a port of this machine that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
