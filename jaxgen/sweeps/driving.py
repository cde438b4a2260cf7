"""Carries a sweep through on an engine, among others that may work on the same folder."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from jaxgen.runs.config import RunConfig
from jaxgen.runs.costs import cost_of
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps.attempts import PATIENCE_SECONDS, Observer
from jaxgen.sweeps.standing import RunState, refusal, standing
from jaxgen.sweeps.sweep import Sweep
from jaxgen.sweeps.waiting import parents_among
from jaxgen.sweeps.watching import Standing, watcher

POLL_SECONDS = 0.5
SECONDS_BETWEEN_LOOKS = 2.0
"""At runs that others work on."""
MOST_DEATHS = 10
"""Attempts that died without a word (a machine that went away) before a run counts as failed."""


class Engine(Protocol):
    """Begins runs somewhere."""

    def has_room(self) -> bool:
        """Whether a run more may begin now."""
        ...

    def start(self, config: RunConfig, number: int) -> Any | None:
        """Begins attempt `number` + 1 at a run; None if somebody else was faster."""
        ...

    def has_ended(self, handle: Any) -> bool:
        """Whether what `start` returned has ended; true once."""
        ...

    def stop(self, handles: list[Any]) -> None:
        """Lets all save their state and end."""
        ...


@dataclasses.dataclass
class _Entry:
    config: RunConfig
    directory: RunDirectory
    state: RunState
    first: int  # The newest attempt that had ended before this session.
    is_over: bool = False
    parent: _Entry | None = None  # Begins with the parameters of that run.
    handle: Any = None
    looked: float = 0.0


def drive(
    sweep: Sweep,
    folder: Path,
    engine: Engine,
    retries: int = 1,
    patience_seconds: float = PATIENCE_SECONDS,
    runs: Sequence[RunConfig] | None = None,
) -> list[RunState]:
    """Works until every run has finished, failed or been given up, here or elsewhere.

    Args:
      sweep: the runs.
      folder: of the sweep; whoever else works on it shares it.
      engine: where runs begin.
      retries: how often a run that failed in this session is tried again.
      patience_seconds: how long another host's attempt may be silent.
      runs: those to do; all by default.

    Returns:
      How each stands, in order.

    Raises:
      KeyboardInterrupt: when asked to stop, after every run has saved its state.
    """
    observer = Observer(patience_seconds)
    entries = [_entry(sweep, config, folder, observer) for config in runs or sweep.runs]
    standings = [_shown(entry) for entry in entries]
    by_name = {entry.config.name: entry for entry in entries}
    for name, parent in parents_among([entry.config for entry in entries], folder).items():
        by_name[name].parent = by_name[parent]
    waiting = [entry for entry in entries if not entry.is_over]
    with watcher(standings) as watch, _stopping(engine, entries):
        while waiting:
            for entry in waiting:
                if entry.handle is not None and engine.has_ended(entry.handle):
                    entry.handle, entry.looked = None, 0.0
                if entry.handle is None and _is_due(entry):
                    entry.state = standing(sweep, entry.config, entry.directory, observer)
                    entry.looked = time.monotonic()
            for entry in waiting:
                entry.is_over = _is_over(entry, retries)
            waiting = [entry for entry in waiting if not entry.is_over]
            for entry in waiting:
                if _may_begin(entry) and engine.has_room():
                    entry.handle = engine.start(entry.config, entry.state.newest)
                    entry.looked = 0.0
            _show(watch, entries)
            if waiting:
                time.sleep(POLL_SECONDS)
    return [entry.state for entry in entries]


def _entry(sweep: Sweep, config: RunConfig, folder: Path, observer: Observer) -> _Entry:
    directory = RunDirectory(folder / config.name)
    problem = refusal(config, directory)
    state = standing(sweep, config, directory, observer)
    if problem is not None:
        state = dataclasses.replace(state, state="refused", why=problem)
    alive = state.state == "running"
    first = state.newest - 1 if alive else state.newest
    return _Entry(config, directory, state, first, state.state in ("finished", "refused"))


def _is_due(entry: _Entry) -> bool:
    return time.monotonic() - entry.looked >= SECONDS_BETWEEN_LOOKS


def _may_begin(entry: _Entry) -> bool:
    parent = entry.parent
    is_free = parent is None or (parent.is_over and parent.state.state == "finished")
    return is_free and entry.handle is None and entry.state.state != "running"


def _is_over(entry: _Entry, retries: int) -> bool:
    if entry.handle is not None:
        return False
    if entry.state.state in ("finished", "stopped"):
        return True
    if entry.state.state == "running":
        return False
    parent = entry.parent
    if parent is not None and parent.is_over and parent.state.state != "finished":
        why = f"the run {parent.config.name}, whose parameters it begins with, did not finish"
        entry.state = dataclasses.replace(entry.state, state="refused", why=why)
        return True
    ours = [record for record in entry.state.attempts if record.number > entry.first]
    deaths = sum(record.outcome is None for record in ours)
    if deaths > MOST_DEATHS:
        why = f"its workers died {deaths} times without a word; are machines out of memory?"
        entry.state = dataclasses.replace(entry.state, state="failed", why=why)
        return True
    return sum(record.outcome == "failed" for record in ours) > retries


def _shown(entry: _Entry) -> Standing:
    cost = cost_of(entry.config)
    return Standing(entry.config.name, entry.directory, cost.steps, cost.flops)


def _show(watch, entries: Sequence[_Entry]) -> None:
    def those(*states: str) -> set[Path]:
        return {entry.directory.path for entry in entries if entry.state.state in states}

    at_work = {entry.directory.path for entry in entries if entry.handle is not None}
    watch.show(
        running=at_work | those("running"),
        failed=those("failed", "refused") - at_work,
        stopped=those("stopped"),
    )


@contextlib.contextmanager
def _stopping(engine: Engine, entries: Sequence[_Entry]) -> Iterator[None]:
    """On the way out by an error or interrupt, lets every run save before going on."""
    try:
        yield
    except BaseException:
        handles = [entry.handle for entry in entries if entry.handle is not None]
        if handles:
            print(f"\nstopping: {len(handles)} run(s) save their state ...", flush=True)
        engine.stop(handles)
        raise
