"""Processes that are killed, asked to stop, suspended, or late."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable

from chaos_faults import orders
from chaos_faults.faults.kind import Kind, Since
from chaos_faults.running import Running, children_of

KILLED = (signal.SIGKILL.name,)
WORKER_DIED = "a data worker died"


def kill_in(phase: str) -> Callable[[Running, random.Random], None]:
    """Returns a fault that kills a process once it is in a phase, after a random moment."""

    def inject(run: Running, draw: random.Random) -> None:
        process, delay = draw.randrange(2), draw.uniform(0, 0.1)
        process_id = run.trainer(process)

        def is_there() -> bool:
            seen = orders.read_observed(run.workload.orders, process)
            return seen is not None and seen.phase == phase

        run.wait(is_there)
        run.sleep(0.0 if phase == "data" else delay)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)

    return inject


def kill_in_save(run: Running, draw: random.Random) -> None:
    """Kills a process while a checkpoint is written in the background."""
    process, delay = draw.randrange(2), draw.uniform(0, 0.1)
    process_id = run.trainer(process)
    run.wait(run.is_saving)
    run.sleep(delay)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGKILL)


def kill_in_start(run: Running, draw: random.Random) -> None:
    """Kills both processes, and one of the next ones before they train."""
    process, delay = draw.randrange(2), draw.uniform(0.5, 6)
    before = run.trainer(process)
    run.send(signal.SIGKILL, 0, 1)
    run.wait(lambda: run.trainer(process) != before)
    run.sleep(delay)
    run.send(signal.SIGKILL, process)


def kill_worker(run: Running, draw: random.Random) -> None:
    """Kills a process that makes batches."""
    parent, printed = run.trainer(draw.randrange(2)), run.log.stat().st_size
    worker = draw.choice(run.wait(lambda: _workers(parent)))
    os.kill(worker, signal.SIGKILL)
    run.wait(lambda: WORKER_DIED in run.printed(printed), 60)


def _workers(parent: int) -> list[int]:
    found = []
    for child in children_of(parent):
        with contextlib.suppress(OSError), open(f"/proc/{child}/cmdline", "rb") as file:
            if b"spawn_main" in file.read():
                found.append(child)
    return found


def ask_one(run: Running, draw: random.Random) -> None:
    """Sends one process SIGTERM, as a machine does that is taken away."""
    run.send(signal.SIGTERM, draw.randrange(2))


def ask_all(run: Running, draw: random.Random) -> None:
    """Sends the supervisor SIGTERM; the harness then starts it again, as a cluster does."""
    run.sleep(draw.uniform(0, 0.3))
    run.send_to_supervisor(signal.SIGTERM)


def ask_twice(run: Running, draw: random.Random) -> None:
    """Sends one process SIGTERM and, before it can have saved its state, once more."""
    process = draw.randrange(2)
    run.send(signal.SIGTERM, process)
    run.sleep(draw.uniform(0, 0.1))
    run.send(signal.SIGTERM, process)


def suspend(run: Running, draw: random.Random) -> None:
    """Suspends a process for good."""
    run.send(signal.SIGSTOP, draw.randrange(2))


def start_late(run: Running, draw: random.Random) -> None:
    """Kills both processes, and lets one of the next come much later than the other."""
    late, seconds = draw.randrange(2), draw.choice([5.0, 10.0, 40.0])
    orders.write_numbers(run.workload.orders / f"late-{late}", [seconds])
    run.send(signal.SIGKILL, 0, 1)


def was_killed(since: Since) -> bool:
    """Returns whether the supervisor found that a process was killed."""
    return since.restarted_for(*KILLED)


STOPPED = "stopped at step"
KINDS = (
    Kind("SIGKILL in the step", kill_in("step"), was_killed),
    Kind("SIGKILL in the asynchronous save", kill_in_save, was_killed),
    Kind("SIGKILL in the loader", kill_in("data"), was_killed),
    Kind("SIGKILL in evaluation", kill_in("evaluation"), was_killed),
    Kind("SIGKILL while starting", kill_in_start, was_killed),
    Kind(
        "SIGKILL of a data worker",
        kill_worker,
        lambda since: WORKER_DIED in since.printed,
        resumes=False,
        needs="workers",
    ),
    Kind("SIGTERM to one process", ask_one, lambda since: since.restarted_for(STOPPED)),
    Kind("SIGTERM to all, started again", ask_all, lambda since: since.starts_again > 0),
    Kind(
        "SIGTERM twice",
        ask_twice,
        lambda since: since.restarted_for(STOPPED, "exit status 75", *KILLED),
    ),
    Kind(
        "SIGSTOP, longer than the watchdog",
        suspend,
        lambda since: since.restarted_for("has not got on", *KILLED),
    ),
    Kind("the other process starts late", start_late, None),
)
