"""Runs a command with live progress, and explains a failure: the noisy half of `tools/setup`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALLING = re.compile("Installing collected packages")
TAIL_LINES = 15
LINE_WIDTH = 200
PLAIN_INTERVAL_S = 10.0

# What pip's last lines say -> what to do about it. The first match wins.
ADVICE = (
    (
        r"No space left on device|Errno 28|Disk quota exceeded",
        "The disk is full. An environment takes about 1.5 GB in {root} (cuda: 6 GB), and pip needs "
        "room in its temporary folder. Free some, or point TMPDIR at a larger disk.",
    ),
    (
        r"DO NOT MATCH THE HASHES",
        "The index served a file that is not the pinned one. Clear pip's cache "
        "(`pip cache purge`); if it happens again, the index is not to be trusted.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "The index's certificate is not known here. Behind a proxy that re-signs traffic, set "
        "PIP_CERT to its certificate file.",
    ),
    (
        r"\b40[137]\b.*(Error|Unauthorized|Forbidden)",
        "The index refused access. Check its address and the credentials in it: `pip config list`.",
    ),
    (
        r"NewConnectionError|Failed to establish|timed out|ProxyError|Connection(Reset| refused)"
        r"|Name or service not known|Temporary failure in name resolution",
        "pip cannot reach its package index. Check the network and pip's settings (`pip config "
        "list`, PIP_INDEX_URL). Behind a mirror: export PIP_INDEX_URL=<its address>",
    ),
    (
        r"No matching distribution found|is not a supported wheel",
        "The index offers no such package for {python} on {machine}. Either its address is wrong "
        "(`pip config list`, PIP_INDEX_URL), or the mirror is incomplete, or the machine is not "
        "one jaxgen runs on: Linux (glibc; x86_64, aarch64) and macOS (arm64).",
    ),
    (
        r"Permission denied|Read-only file system",
        "{root} cannot be written. Use a checkout in a folder of your own.",
    ),
)


class SetupError(Exception):
    """A set-up that cannot go on; the message says what to do."""


class CommandFailed(SetupError):
    """A command ended badly; `lines` is the end of what it printed."""

    def __init__(self, command: Sequence[str | Path], code: int, lines: Sequence[str]) -> None:
        words = shlex.join(str(word) for word in command)
        telling = [line for line in lines if not line.startswith("Ignoring ")]
        shown = "\n".join(f"  {line[:LINE_WIDTH]}" for line in telling[-TAIL_LINES:])
        parts = (f"this command failed (exit code {code}):\n  {words}", shown, advice(lines))
        super().__init__("\n".join(part for part in parts if part))
        self.lines = lines


def advice(lines: Sequence[str]) -> str:
    """What to do about a command that printed these lines; empty where nothing is known."""
    output = "\n".join(lines)
    text = next(
        (f"What to do: {text}" for pattern, text in ADVICE if re.search(pattern, output)), ""
    )
    return text.format(
        root=ROOT,
        python=f"Python {sys.version_info[0]}.{sys.version_info[1]}",
        machine=f"{os.uname().sysname} {os.uname().machine}",
    )


class Progress:
    """One line that is rewritten on a terminal; elsewhere a line every few seconds."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._live = sys.stderr.isatty()
        self._last_print = float("-inf")

    def show(self, text: str, *, force: bool = False) -> None:
        now = time.monotonic()
        interval = 0.0 if self._live else PLAIN_INTERVAL_S
        if not force and now - self._last_print < interval:
            return
        self._last_print = now
        line = f"[{now - self._started:4.0f} s] {text}"
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{line[:width]}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def finish(self, text: str) -> None:
        self.show(text, force=True)
        self.end_line()

    def end_line(self) -> None:
        if self._live:
            print(file=sys.stderr)


def clean_environment() -> dict[str, str]:
    """The caller's variables, without those that make pip install somewhere else."""
    unwanted = (
        *("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_HASHES"),
        *("PYTHONPATH", "PYTHONHOME"),
    )
    variables = {k: v for k, v in os.environ.items() if k not in unwanted}
    variables["PIP_USER"] = "0"
    variables.setdefault("PIP_RETRIES", "2")
    return variables


def describe(line: str) -> str | None:
    """A line of pip's output as a few words of progress; None where it says nothing new."""
    if match := re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)", line):
        return f"looking at {match[1]}"
    if match := re.match(r"\s*(?:Downloading|Using cached) (\S+?)-\d\S* \((.*)\)", line):
        return f"fetching {Path(match[1]).name} ({match[2]})"
    if INSTALLING.match(line):
        return "installing"
    if "Retrying (Retry(" in line:
        return "the package index does not answer, trying again"
    return None


def run(title: str, command: Sequence[str | Path], progress: Progress, lock_fd: int) -> None:
    """Runs a command with live progress; raises CommandFailed."""
    lines: deque[str] = deque(maxlen=400)
    status = [title]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        cwd=ROOT,
        env=clean_environment(),
        pass_fds=(lock_fd,),
    )

    def read() -> None:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if text := describe(line):
                status[0] = f"{title}: {text}"

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    progress.show(title, force=True)
    while reader.is_alive():
        reader.join(0.2)
        progress.show(status[0])
    if process.wait() != 0:
        progress.end_line()
        raise CommandFailed(command, process.returncode, list(lines))
