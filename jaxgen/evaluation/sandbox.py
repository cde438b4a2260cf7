"""Runs programs that a model wrote, with their tests, in a process with few rights.

The process (`sandbox_child.py`) is new for each candidate, isolated from the user's packages and
environment, limited in memory, processor time and size of files, in an empty temporary folder, and
killed with its children when it ends or its time is over. An audit hook refuses new processes,
sockets and writing outside the folder; where the kernel lets an ordinary user create a
network (Linux), the process has one without interfaces.

This protects against accidents and the mischief of small generated functions. It does not stop an
adversary: a hook is no obstacle to whoever can break Python's own memory, and candidates can read
whatever the user can. Run programs of people you do not trust in a container or virtual machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jaxgen.domains import PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError

CHILD = Path(__file__).with_name("sandbox_child.py")
SIGNALS = {signal.SIGXCPU: "out of processor time", signal.SIGXFSZ: "a file grew too large"}


@dataclasses.dataclass(frozen=True)
class Limits:
    """The resources that a candidate may use.

    Attributes:
      seconds: of wall-clock time, and of processor time (rounded up).
      memory_bytes: of address space, including Python's own.
      file_bytes: of any file it writes.
    """

    seconds: PositiveFloat = 5.0
    memory_bytes: PositiveInt = 512 * 2**20
    file_bytes: PositiveInt = 2**20

    def __post_init__(self):
        check_domains(self, "Limits")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of running a candidate.

    Attributes:
      status: "passed" if the program and all tests ran without an exception.
      reason: why it failed; empty if it passed.
    """

    status: Literal["passed", "failed", "timeout"]
    reason: str = ""


def run_candidate(program: str, tests: Sequence[str], limits: Limits | None = None) -> Outcome:
    """Runs a program, then each test in the names that it defined.

    Args:
      program: Python source.
      tests: statements such as "assert solve([1]) == 2"; the first that fails ends the run.
      limits: the resources; `Limits()` by default.

    Raises:
      ConfigError: where the system has no such processes (Windows).
    """
    if os.name != "posix":
        raise ConfigError("candidates run on Linux and macOS alone; score code on such a machine.")
    limits = limits or Limits()
    token = secrets.token_hex(16)
    allowed = {**dataclasses.asdict(limits)}
    task = {"program": program, "tests": list(tests), "limits": allowed, "token": token}
    # Lone surrogates, which a model may write, have no UTF-8; JSON escapes them.
    message = json.dumps(task).encode()
    with tempfile.TemporaryDirectory(prefix="jaxgen-candidate-") as folder:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(CHILD), folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=folder, env={"TMPDIR": folder, "HOME": folder}, start_new_session=True,
        )  # fmt: skip
        try:
            told, _ = child.communicate(message, timeout=limits.seconds)
        except subprocess.TimeoutExpired:
            return Outcome("timeout", f"not done after {limits.seconds:g} s")
        finally:
            end(child)
    return _outcome(told, child.returncode, token)


def end(child: subprocess.Popen[bytes]) -> None:
    """Ends the process and all of its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _outcome(told: bytes, code: int, token: str) -> Outcome:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        report = json.loads(told)
        if report["token"] == token and report["status"] in ("passed", "failed"):
            return Outcome(report["status"], str(report["reason"]))
    if code == -signal.SIGXCPU:
        return Outcome("timeout", SIGNALS[signal.SIGXCPU])
    if code < 0:
        name = signal.Signals(-code).name
        return Outcome("failed", SIGNALS.get(signal.Signals(-code), f"ended by {name}"))
    return Outcome("failed", f"ended with exit code {code} before its tests were done")
