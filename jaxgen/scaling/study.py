"""A study: many runs under one folder, several at a time, each in a process of its own.

Finished runs are not run again and killed ones go on, so a study is continued by starting it
again. A run that fails is reported and the others go on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxgen.errors import JaxgenError
from jaxgen.models.counting import count_parameters, training_flops_per_token
from jaxgen.process import prepare_process
from jaxgen.run import run
from jaxgen.run_config import RunConfig
from jaxgen.scaling.watching import Standing, watcher
from jaxgen.training.run_directory import RunDirectory

POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a run.

    Attributes:
      directory: the run's.
      error: why it failed, None where it finished.
    """

    directory: RunDirectory
    error: str | None


def run_study(
    configs: Sequence[RunConfig],
    folder: str | os.PathLike,
    jobs: int | None = None,
    after: Callable[[RunDirectory], None] | None = None,
) -> list[Result]:
    """Runs configurations in `folder/NAME`, with live progress.

    Args:
      configs: with different names.
      folder: of the study.
      jobs: runs at a time; one for each core by default. Each has its share of the cores.
      after: a function of a module, called in the run's process when the run is finished.

    Returns:
      What became of each, in order.

    Raises:
      KeyboardInterrupt: when asked to stop, after every run has saved its state.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    jobs = min(jobs or len(cores) or 1, len(configs))
    slots = [cores[slot::jobs] for slot in range(jobs)]
    waiting = [(config, RunDirectory(Path(folder) / config.name)) for config in configs]
    results: dict[Path, Result] = {}
    running: dict[Path, tuple[Any, list[int], RunDirectory]] = {}
    context = multiprocessing.get_context("spawn")
    standings = [_standing(config, directory) for config, directory in waiting]
    order = [directory for _, directory in waiting]
    with watcher(standings) as watch, _stopping(running):
        while waiting or running:
            while waiting and slots:
                config, directory = waiting.pop(0)
                directory.path.mkdir(parents=True, exist_ok=True)
                slot = slots.pop(0)
                arguments = (config, str(directory.path), slot, os.getpid(), after)
                process = context.Process(target=_run_alone, args=arguments, name=config.name)
                process.start()
                running[directory.path] = (process, slot, directory)
            for path, (process, slot, directory) in list(running.items()):
                if process.exitcode is not None:
                    results[path] = Result(directory, _error_of(process.exitcode, directory))
                    slots.append(slot)
                    del running[path]
            watch.show(running=set(running), failed={p for p, r in results.items() if r.error})
            time.sleep(POLL_SECONDS)
    return [results[directory.path] for directory in order]


def _standing(config: RunConfig, directory: RunDirectory) -> Standing:
    steps = config.train.total_steps(count_parameters(config.model).active)
    flops = training_flops_per_token(config.model, config.train.length)
    return Standing(config.name, directory, steps, config.train.tokens_before(steps) * flops)


@contextlib.contextmanager
def _stopping(running: dict[Path, tuple[Any, list[int], RunDirectory]]):
    """On the way out by an error or interrupt, lets every run save before going on."""
    try:
        yield
    except BaseException:
        if running:
            print(f"\nstopping: {len(running)} run(s) save their state ...", flush=True)
        for process, _, _ in running.values():
            process.terminate()
        for process, _, _ in running.values():
            process.join()
        raise


def _error_of(exitcode: int, directory: RunDirectory) -> str | None:
    if exitcode == 0:
        return None
    log = log_file(directory)
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    return f"{last} (exit status {exitcode}; all of it: {log})"


def log_file(directory: RunDirectory) -> Path:
    """What a run of a study printed."""
    return directory.path / "log.txt"


def _run_alone(
    config: RunConfig,
    run_dir: str,
    cores: list[int],
    parent: int,
    after: Callable[[RunDirectory], None] | None,
) -> None:
    """The process of one run: its output goes to its log, its threads to its cores."""
    with open(Path(run_dir) / "log.txt", "a") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    if cores:
        os.sched_setaffinity(0, cores)  # XLA makes as many threads as it sees cores.
    prepare_process()  # Before any thread: one that is older keeps an arena of its own.
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        finished = run(config, run_dir, watch=False, patience_seconds=60)
        if after is not None:
            after(finished.directory)
    except JaxgenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _end_with(parent: int) -> None:
    """Asks this process to save and end when the study that started it is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
