"""What befalls the store of a run's mirror, and a run directory that only it can bring back."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable

from chaos_faults.faults.kind import Kind, NotPossibleError, Since
from chaos_faults.running import Running, is_alive
from chaos_faults.store import Store

FAILED, WHOLE = "cannot be written", "has all again"


def store_of(run: Running) -> Store:
    """Returns the store of a round; raises NotPossibleError if it has none."""
    if run.workload.store is None:
        raise NotPossibleError("moto and s3fs are not installed")
    return run.workload.store


def answer(fault: str) -> Callable[[Running, random.Random], None]:
    """Returns a fault of the store: until it is told of and some seconds more, then it is well."""

    def inject(run: Running, draw: random.Random) -> None:
        store, printed = store_of(run), run.log.stat().st_size
        seconds = draw.uniform(0, 15)
        store.proxy.fault = fault
        try:
            run.wait(lambda: FAILED in run.printed(printed))
            run.sleep(seconds)
        finally:
            store.proxy.fault = None
        run.wait(lambda: WHOLE in run.printed(printed))

    return inject


def slow_down(run: Running, draw: random.Random) -> None:
    """Delays each part of a request for a while, and waits until the mirror has caught up."""
    store = store_of(run)
    store.proxy.fault = "slow"
    try:
        run.sleep(draw.uniform(5, 20))
    finally:
        store.proxy.fault = None
    catch_up(run, store)


def catch_up(run: Running, store: Store) -> None:
    """Waits until a checkpoint that is here now, or a newer one, is whole in the mirror."""
    here = run.checkpoints()[-1]
    run.wait(lambda: max(store.whole_steps(run.workload.mirror), default=0) >= here)


def lose_directory(run: Running, draw: random.Random) -> None:
    """Kills both processes, and removes all that the run directory has."""
    store = store_of(run)
    run.wait(lambda: store.whole_steps(run.workload.mirror))
    process_ids = [run.trainer(process) for process in (0, 1)]
    run.send(signal.SIGKILL, 0, 1)
    run.wait(lambda: not any(map(is_alive, process_ids)))
    for path in run.workload.run_dir.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def lose_it_while(fault: str) -> Callable[[Running, random.Random], None]:
    """Returns a fault that takes the directory away while the store does not answer either."""

    def inject(run: Running, draw: random.Random) -> None:
        store = store_of(run)
        seconds = draw.uniform(5, 15)
        catch_up(run, store)
        store.proxy.fault = fault
        try:
            lose_directory(run, draw)
            run.sleep(seconds)
        finally:
            store.proxy.fault = None

    return inject


def was_told_of_store(since: Since) -> bool:
    """Returns whether it was told that the store failed, and that it has all again."""
    return FAILED in since.printed and WHOLE in since.printed


def was_fetched(since: Since) -> bool:
    """Returns whether a checkpoint came back from the mirror."""
    return "was fetched from" in since.printed


MIRROR = "mirror"
KINDS = (
    Kind("an object store answering 500", answer("500"), was_told_of_store, False, MIRROR, 6),
    Kind(
        "an object store that cuts connections", answer("cut"), was_told_of_store, False, MIRROR, 6
    ),
    Kind("a slow object store", slow_down, None, False, MIRROR, 6),
    Kind("the run directory lost, and SIGKILL", lose_directory, was_fetched, True, MIRROR, 6),
    Kind(
        "the run directory lost while the store answers 500",
        lose_it_while("500"),
        was_fetched,
        True,
        MIRROR,
        6,
    ),
)
