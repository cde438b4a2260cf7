"""The process in which a candidate program runs: `python -I -S -B sandbox_child.py FOLDER`.

It reads {"program", "tests", "limits"} as JSON from its input, takes its own rights away, runs the
program and then each test, and writes one line of JSON, {"status", "reason"}, to its output. It is
run by `jaxgen.evaluation.sandbox` alone and imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback

REFUSED = (
    "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.spawn", "os.system", "os.kill",
    "os.killpg", "subprocess.Popen", "pty.spawn", "socket.", "ctypes.", "resource.", "syslog.",
    "os.putenv", "os.chdir", "os.setxattr", "os.removexattr", "os.chown", "os.chflags",
    "signal.pthread_kill", "fcntl.", "sys._current_frames",
)  # fmt: skip
"""Beginnings of names of audit events that no small pure function causes."""
CHANGING = {
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
    "os.utime", "os.chmod", "os.mkfifo", "os.mknod", "shutil.rmtree", "shutil.move",
    "shutil.copyfile", "shutil.chown", "tempfile.mkstemp", "tempfile.mkdtemp",
}  # fmt: skip
BLOCKED_MODULES = {"_posixsubprocess"}
"""Makes processes without an audit event of its own."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Refused(PermissionError):
    """The error that a candidate gets where it asks for what it may not have."""


def without_network() -> None:
    """Moves to a network of its own, without any interface, where the kernel allows it."""
    with contextlib.suppress(AttributeError, OSError):
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)  # pyright: ignore[reportAttributeAccessIssue]
        return
    with contextlib.suppress(Exception):  # Python 3.11 has no os.unshare.
        import ctypes

        new_user, new_network = 0x10000000, 0x40000000
        ctypes.CDLL(None).unshare(new_user | new_network)


def limit(memory_bytes: int, seconds: float, file_bytes: int) -> None:
    """Sets the limits of this process; those that the system lacks are left out."""
    import resource

    limits = {
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_DATA": memory_bytes,
        "RLIMIT_CPU": int(seconds) + 1,
        "RLIMIT_FSIZE": file_bytes,
        "RLIMIT_NPROC": 0,
        "RLIMIT_CORE": 0,
    }
    for name, value in limits.items():
        # macOS refuses some of them.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, value))


def guard(folder: str):
    """Returns an audit hook that refuses processes, sockets and writing outside the folder."""
    inside = os.path.realpath(folder) + os.sep
    real = os.path.realpath

    def allowed(path: object) -> bool:
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        return isinstance(path, str) and (real(path) + os.sep).startswith(inside)

    def hook(event: str, arguments: tuple) -> None:
        if event.startswith(REFUSED):
            raise Refused(f"{event} is refused")
        if event == "import" and arguments[0] in BLOCKED_MODULES:
            raise Refused(f"importing {arguments[0]} is refused")
        if event == "open":
            path, mode, flags = arguments
            writes = bool(flags & WRITING) or (
                isinstance(mode, str) and any(letter in mode for letter in "wax+")
            )
            if writes and not allowed(path):
                raise Refused(f"writing to {path!r} is refused: it is outside the folder")
        elif event in CHANGING:
            paths = [one for one in arguments if isinstance(one, str | bytes)]
            if not all(allowed(path) for path in paths):
                raise Refused(f"{event} of {paths} is refused: it is outside the folder")

    return hook


def run_tests(program: str, tests: list[str]) -> tuple[str, str]:
    """Runs the program and its tests; returns ("passed" or "failed", the reason)."""
    names: dict[str, object] = {"__name__": "candidate"}
    for place, source in (("program", program), *((f"test {t!r}", t) for t in tests)):
        try:
            exec(compile(source, f"<{place}>", "exec"), names)
        except AssertionError:
            return "failed", f"{place}: the assertion is false"
        except BaseException as error:
            told = traceback.format_exception_only(error)[-1].strip()
            return "failed", f"{place}: {told}"[:500]
    return "passed", ""


def main() -> None:
    """Reads the task, runs it under all restrictions and writes the report."""
    task = json.loads(sys.stdin.buffer.read())
    report = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    without_network()
    limit(**task["limits"])
    sys.addaudithook(guard(sys.argv[1]))
    status, reason = run_tests(task["program"], task["tests"])
    told = {"status": status, "reason": reason, "token": task["token"]}
    os.write(report, json.dumps(told).encode())
    os._exit(0)  # No handler that the candidate may have left is run.


if __name__ == "__main__":
    main()
