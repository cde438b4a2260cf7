"""Makes this checkout's virtual environment; `tools/setup` finds a Python and runs this.

The environment is a function of the lock files: a stamp inside it says which of them are
installed in full. Where the stamp and the files agree there is nothing to do. Where they differ,
or a set-up was killed half-way, or the checkout moved, the environment is made anew, because a
half-installed package cannot be told from a whole one. Only the standard library is used here.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from command import INSTALLING, ROOT, CommandFailed, Progress, SetupError, advice, run

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "jaxgen-setup.json"
LOCKS = ("cpu", "dev", "tpu", "cuda")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lock_path(name: str) -> Path:
    return ROOT / "requirements" / f"{name}.txt"


def read_stamp() -> dict | None:
    """The stamp of the environment, or None where there is none that can be read."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def write_stamp(stamp: dict) -> None:
    part = STAMP.with_suffix(".part")
    part.write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
    part.replace(STAMP)


def stamp_of(locks: Iterable[str]) -> dict:
    """The stamp of a whole environment that holds these locks."""
    return {
        "root": str(ROOT),
        "project": digest(ROOT / "pyproject.toml"),
        "locks": {name: digest(lock_path(name)) for name in sorted(locks)},
    }


def held_locks(stamp: dict | None) -> frozenset[str]:
    """The locks the environment holds in full; none where it must be made anew."""
    if not stamp or stamp.get("root") != str(ROOT):
        return frozenset()
    locks = stamp.get("locks", {})
    if not locks.keys() <= set(LOCKS) or stamp_of(locks)["locks"] != locks:
        return frozenset()
    # A Python that was removed or upgraded under the environment no longer finds jaxgen.
    find = "import importlib.util as u, sys; sys.exit(u.find_spec('jaxgen') is None)"
    try:
        works = subprocess.run([PYTHON, "-I", "-c", find], capture_output=True).returncode == 0
    except OSError:
        works = False
    return frozenset(locks) if works else frozenset()


def is_ready(stamp: dict | None, held: frozenset[str], wanted: str) -> bool:
    return wanted in held and stamp == stamp_of(held)


@contextmanager
def only_one_setup(progress: Progress) -> Iterator[int]:
    """Holds off other set-ups of this checkout; children that inherit the descriptor do too."""
    with open(ROOT / ".venv.lock", "w") as lock:
        with suppress(OSError):  # a file system without locks: go on without
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.show("waiting for another set-up of this checkout", force=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def base_python() -> str:
    """The interpreter behind this one, which may be the .venv that is about to be emptied."""
    return getattr(sys, "_base_executable", sys.executable)


def begin_anew() -> None:
    """Empties the environment, stamp first, so that being killed here leaves it known as ours."""
    VENV.mkdir(exist_ok=True)
    write_stamp({})
    for path in VENV.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != STAMP:
            path.unlink()


def refuse_foreign() -> None:
    """Raises SetupError where .venv is a link, or holds something and no trace of a set-up."""
    if VENV.is_symlink():
        raise SetupError(
            f"{VENV} is a link to {VENV.resolve()}, which may be another checkout's, and is left "
            f"alone.\nRemove the link and run this again: rm {shlex.quote(str(VENV))}"
        )
    if VENV.exists() and any(VENV.iterdir()) and not any(VENV.glob(f"{STAMP.stem}.*")):
        old = shlex.quote(f"{VENV}.old")
        raise SetupError(
            f"{VENV} was not made by tools/setup and is left alone.\n"
            f"Move it away and run this again: mv {shlex.quote(str(VENV))} {old}"
        )


def make(wanted: str, progress: Progress, lock_fd: int) -> None:
    """Brings the environment to hold `wanted`; raises SetupError."""
    refuse_foreign()
    stamp = read_stamp()
    held = held_locks(stamp)
    if is_ready(stamp, held, wanted):
        return
    if not held:
        begin_anew()
        run("making .venv", [base_python(), "-m", "venv", VENV], progress, lock_fd)
    write_stamp({})
    pip = [PYTHON, "-m", "pip", "--no-input", "--disable-pip-version-check", "install"]
    pip.append("--progress-bar=off")
    if wanted not in held:
        locked = ["--require-hashes", "--only-binary=:all:", "-r", lock_path(wanted)]
        try:
            run(f"packages of {wanted}.txt", [*pip, *locked], progress, lock_fd)
        except CommandFailed as failure:
            if stamp and held and not any(map(INSTALLING.match, failure.lines)):
                write_stamp(stamp)  # pip stopped before it changed anything
            raise
    editable = ["--no-deps", "--no-build-isolation", "--editable", ROOT]
    run("jaxgen itself", [*pip, *editable], progress, lock_fd)
    # Every lock contains cpu.txt with the same pins (tests/test_packaging.py).
    write_stamp(stamp_of({*held, wanted, "cpu"}))
    progress.finish(f"ready: .venv holds requirements/{wanted}.txt")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/setup", description="Makes .venv of this checkout")
    parser.add_argument("lock", nargs="?", default="cpu", choices=LOCKS)
    wanted = parser.parse_args(arguments).lock
    progress = Progress()
    try:
        stamp = read_stamp()
        if not is_ready(stamp, held_locks(stamp), wanted):
            with only_one_setup(progress) as lock_fd:
                make(wanted, progress, lock_fd)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nerror: {error}\n{advice([str(error)])}".rstrip(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
