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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from jaxgen.launch.supervisor import Restart, Supervisor
from jaxgen.process import PARENT

GRACE_SECONDS = 10.0
"""How long the others may take to end by themselves after one has failed, and after SIGTERM."""


def run_processes(
    command: Sequence[str],
    processes: int,
    devices_per_process: int,
    platform: Literal["cpu", "gpu"] = "cpu",
    restarts: int = 0,
    run_dir: Path | None = None,
    on_start: Callable[[list[int]], object] = lambda process_ids: None,
    on_restart: Callable[[Restart], object] = lambda restart: None,
) -> int:
    """Runs a command in several processes and waits for all; starts all again if one fails.

    The first process prints as it would alone; lines of the others go to standard error with their
    number before them. SIGINT and SIGTERM are passed on to each, and then nothing is started
    again. When one fails, the others are ended, with what they have started themselves. When this
    process is killed, those of jaxgen's commands hear SIGTERM (`process.stop_with_parent`).

    Args:
      command: its words.
      processes: how many.
      devices_per_process: on "cpu" devices that are simulated, on "gpu" those with the numbers
        that follow those of the process before.
      platform: of the devices.
      restarts: how often they are started again at most without a new checkpoint in between.
      run_dir: of the run that the command trains, whose heartbeats and checkpoints tell of stuck
        processes and of progress; None: it trains none.
      on_start: is given the ids of the processes each time that they have been started.
      on_restart: is told of each time that they are about to be started again.

    Returns:
      The exit status: 0, or that of the first process that failed.
    """
    children: list[subprocess.Popen[str]] = []
    supervisor = Supervisor(restarts, run_dir)
    with _Forwarding(children) as forwarding:
        while True:
            readers = _start_all(children, command, processes, devices_per_process, platform)
            on_start([child.pid for child in children])
            process, status = _wait(children, supervisor)
            for reader in readers:
                reader.join(GRACE_SECONDS)  # A grandchild may hold the pipe open for longer.
            if status == 0 or forwarding.received:
                break
            restart = supervisor.next_restart(process, children[process].pid, status)
            if restart is None:
                break
            on_restart(restart)
            forwarding.sleep(restart.wait_seconds)
            if forwarding.received:
                break
    return 128 - status if status < 0 else status


def _start_all(
    children: list[subprocess.Popen[str]],
    command: Sequence[str],
    processes: int,
    devices_per_process: int,
    platform: str,
) -> list[threading.Thread]:
    """Fills the list with new processes; returns the threads that pass on what they print."""
    address = f"127.0.0.1:{free_port()}"
    children.clear()
    readers = []
    for index in range(processes):
        group = {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(index),
            PARENT: str(os.getpid()),
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
    return readers


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


def _wait(children: list[subprocess.Popen[str]], supervisor: Supervisor) -> tuple[int, int]:
    """Returns a process and its status, when all have ended: that which failed first, if any has.

    One that is stuck is killed; when one has failed, all are ended.
    """
    failed: list[tuple[int, int]] = []
    try:
        while not failed and None in (found := [child.poll() for child in children]):
            failed = [(index, status) for index, status in enumerate(found) if status]
            for index in supervisor.stuck([child.pid for child in children]):
                children[index].kill()
            time.sleep(0.05)
    finally:
        _end(children)
    failed = failed or [(i, child.returncode) for i, child in enumerate(children)]
    # What a signal ended was the cause, where another failed in the same moment.
    return min(failed, key=lambda one: (one[1] == 0, one[1] > 0, one[0]))


def _end(children: list[subprocess.Popen[str]]) -> None:
    """Waits for all to end by themselves, then after SIGTERM, then kills those that are left.

    Each leads a group of processes; of those that it started, none stays either.
    """
    for ask in (None, subprocess.Popen.terminate, subprocess.Popen.kill):
        deadline = time.monotonic() + GRACE_SECONDS
        for child in children:
            if ask is not None:
                ask(child)
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))
    for child in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)


class _Forwarding:
    """Passes SIGINT and SIGTERM on to children, while it is entered.

    Attributes:
      received: whether there was one.
    """

    def __init__(self, children: list[subprocess.Popen[str]]):
        self.received = False
        self._children = children
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _Forwarding:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._forward)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def sleep(self, seconds: float) -> None:
        """Waits, but no longer than until a signal comes."""
        deadline = time.monotonic() + seconds
        while not self.received and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(0.1, left))

    def _forward(self, number: int, frame: Any) -> None:
        del frame
        self.received = True
        for child in self._children:
            child.send_signal(number)


def free_port() -> int:
    """Returns a port of this machine that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
