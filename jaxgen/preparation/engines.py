"""One function over many items: on this machine's cores, on a Ray cluster, or by Slurm."""

from __future__ import annotations

import collections
import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Literal

from jaxgen.errors import ConfigError, DataError
from jaxgen.preparation.job_array import by_slurm

Engine = Literal["local", "ray", "slurm"]
ATTEMPTS = 3
"""Attempts at an item whose worker dies."""


def map_items(
    function: Callable[..., Any],
    items: Sequence[Any],
    engine: Engine = "local",
    workers: int | None = None,
    address: str | None = None,
    folder: Path | None = None,
    sbatch: Sequence[str] = (),
) -> Iterator[tuple[int, Any]]:
    """Yields (place, result) of the function of every item, as they finish.

    A worker that dies (killed, out of memory) is replaced and its item tried again; an item's own
    error ends the whole.

    Args:
      function: a function of one item; importable by workers.
      items: the items; picklable.
      engine: "local": processes of this machine; "ray": tasks on a cluster; "slurm": a job array,
        which this process submits and waits for.
      workers: processes of this machine, or tasks of the array at a time; None: one a core, or as
        many as Slurm starts. A Ray cluster that runs already decides by itself.
      address: the address of the Ray cluster: "auto" or "ray://..."; None starts one on this
        machine.
      folder: for the files of a job array; all nodes share it.
      sbatch: options of the job array, such as "--partition=long".

    Raises:
      ConfigError: for no workers, workers of a cluster that runs already, or options of another
        engine.
      DataError: where an item's workers die again and again, or Ray is not there.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers={workers} must be positive.")
    if sbatch and engine != "slurm":
        raise ConfigError(f"--sbatch={sbatch[0]} needs --engine=slurm.")
    if address is not None and engine != "ray":
        raise ConfigError(f"--address={address} needs --engine=ray.")
    if engine == "slurm":
        assert folder is not None, "a preparation has a working folder"
        return by_slurm(function, items, folder, workers, sbatch)
    if engine == "ray":
        if workers is not None and address is not None:
            raise ConfigError(f"--workers={workers} is for this machine; {address} has its own.")
        return _on_ray(function, items, address, workers)
    return _here(function, items, workers or os.cpu_count() or 1)


def _here(function, items, workers: int) -> Iterator[tuple[int, Any]]:
    # Spawned, as a fork would copy threads' locks.
    context = multiprocessing.get_context("spawn")
    waiting = collections.deque(range(len(items)))
    deaths: collections.Counter[int] = collections.Counter()
    while waiting:
        workers = min(workers, len(waiting))
        running: dict[concurrent.futures.Future, int] = {}
        with concurrent.futures.ProcessPoolExecutor(
            workers, mp_context=context, initializer=_single_threaded
        ) as pool:
            try:
                while waiting or running:
                    # No more than are worked on, so that a death is blamed on those alone.
                    while waiting and len(running) < workers:
                        running[pool.submit(function, items[waiting[0]])] = waiting[0]
                        waiting.popleft()
                    done, _ = concurrent.futures.wait(
                        running, return_when=concurrent.futures.FIRST_COMPLETED
                    )
                    for future in done:
                        result = future.result()
                        yield running.pop(future), result
            except BrokenProcessPool as error:
                suspects = sorted(running.values())
                deaths.update(suspects)
                if any(deaths[place] >= ATTEMPTS for place in suspects):
                    raise DataError(
                        f"worker processes died {ATTEMPTS} times ({error}), with {suspects} of "
                        f"{len(items)} items (from 0) in work; the machine may be out of memory: "
                        "use fewer --workers or smaller items. What is done is kept: run the same "
                        "command again to go on."
                    ) from error
                waiting.extendleft(reversed(suspects))


def _single_threaded() -> None:
    """Keeps a worker to one core, as the tokenizer's own threads would slow the others."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"


def _on_ray(function, items, address: str | None, workers: int | None) -> Iterator[tuple[int, Any]]:
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError as error:
        raise DataError('--engine=ray needs Ray: pip install "jaxgen[ray]".') from error
    try:
        ray.init(address=address, num_cpus=workers, ignore_reinit_error=True, log_to_driver=False)
    except ConnectionError as error:
        raise DataError(f"no Ray cluster at {address}: {error}.") from error

    @ray.remote(max_retries=ATTEMPTS, num_cpus=1)
    def work(item):
        _single_threaded()
        return function(item)

    running = {work.remote(item): place for place, item in enumerate(items)}
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        place = running.pop(done)
        try:
            yield place, ray.get(done)
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise cause from None
        except RayError as error:
            raise DataError(
                f"Ray lost an item {ATTEMPTS + 1} times ({type(error).__name__}). What is done is "
                "kept: run the same command again to go on."
            ) from error
