"""Rounds: runs with several faults each, until all of a schedule have been injected."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import pathlib
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

from chaos_faults.checks import problems_of
from chaos_faults.faults import KINDS, Kind
from chaos_faults.injecting import Outcome, disturb
from chaos_faults.running import RoundError, Running
from chaos_faults.store import Store
from chaos_faults.workload import Workload, write_shards
from jaxgen.runs.history import read_rewinds
from jaxgen.runs.run_directory import RunDirectory

DISK = "64m"
CACHE = pathlib.Path(tempfile.gettempdir()) / "jaxgen-chaos-cache"
"""The folder of compiled programs, which later calls find."""


def schedule(seed: int, kinds: tuple[Kind, ...] = KINDS) -> Iterator[Kind]:
    """Yields kinds without end: each once in a random order, then again in another."""
    draw = random.Random(seed)
    while True:
        yield from draw.sample(kinds, len(kinds))


@dataclasses.dataclass
class Campaign:
    """Rounds against one undisturbed run.

    Attributes:
      folder: of all that is written, but for what is compiled.
      seed: of the schedule and of all that is open about a fault.
      steps: of each run.
      say: is told of each event, in a line.
      store: for the mirrors of rounds; None: there is none.
      outcomes: of the faults so far.
      problems: what was wrong with rounds that ended.
    """

    folder: pathlib.Path
    seed: int
    steps: int
    say: Callable[[str], object]
    store: Store | None = None
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self):
        write_shards(self.folder / "data", self.seed)
        self._step_seconds = 0.0
        self._reference = self._workload("reference")

    def run(self, faults: int, minutes: float, kinds: tuple[Kind, ...] = KINDS) -> None:
        """Injects so many faults, or as many as there is time for."""
        deadline = time.monotonic() + 60 * minutes
        self._run_undisturbed(self._reference)
        waiting = collections.deque(itertools.islice(schedule(self.seed, kinds), faults))
        for number in itertools.count(1):
            if not waiting or time.monotonic() > deadline:
                return
            self._round(number, waiting, deadline)

    def _workload(self, name: str, **settings: object) -> Workload:
        workload = Workload(self.folder / name, self.folder / "data", CACHE, self.steps)
        return dataclasses.replace(workload, **settings)  # pyright: ignore[reportArgumentType]

    def _run_undisturbed(self, workload: Workload) -> None:
        workload.prepare()
        run = Running(workload)
        try:
            run.wait_for_step(workload.checkpoint_every + 2)
            began = run.now
            run.finish(600)
        finally:
            run.stop()
        assert began is not None
        steps = [one for one in run.moments if one.step < self.steps and one.phase == "step"]
        taken = steps[-1].step - began.step
        self._step_seconds = (steps[-1].time - began.time) / max(1, taken)
        self.say(f"{workload.folder.name}: {self._step_seconds:.2f} s a step")

    def _round(self, number: int, waiting: collections.deque[Kind], deadline: float) -> None:
        """Runs a round, taking from what is waiting the faults that it can have."""
        offers = {"", "workers"} if number % 2 else {"", "replay", "mirror"}
        has_mirror = "mirror" in offers & {kind.needs for kind in waiting}
        if not any(kind.needs in offers for kind in waiting):
            return
        draw = random.Random(f"{self.seed}/{number}")
        workload = self._workload(f"round-{number}", data_workers=number % 2)
        if has_mirror:
            workload = dataclasses.replace(workload, store=self.store)
        with _own_disk(workload.run_dir):
            workload.prepare()
            run = Running(workload)
            try:
                self.disturb_while_it_runs(run, number, waiting, offers, draw, deadline)
                run.finish()
                if left := run.left_over():
                    self.problems.append(f"round {number}: the processes {left} are left")
            except RoundError as error:
                self.problems.append(f"round {number}: {error}")
            finally:
                run.stop()
            if run.has_ended():
                self._compare(workload, number)
            shutil.copytree(workload.run_dir, workload.folder / "kept", ignore=_large)

    def disturb_while_it_runs(
        self,
        run: Running,
        number: int,
        waiting: collections.deque[Kind],
        offers: set[str],
        draw: random.Random,
        deadline: float,
    ) -> None:
        """Injects what is waiting and is offered, one fault after the other, until the run nears
        its end.

        Raises:
          RoundError: if the run does not go on.
        """
        run.wait(lambda: run.now)
        while waiting and time.monotonic() < deadline:
            assert run.now is not None
            # A fault may have lasted to the end of a quick run, after which no step comes.
            step = run.now.step + draw.randint(1, 4)
            if run.is_near_end(step):
                return
            run.wait_for_step(step)
            step = run.now.step
            kind = next(
                (one for one in waiting if one.needs in offers and one.at_least <= step), None
            )
            if kind is None:
                if not any(one.needs in offers for one in waiting):
                    return
                continue
            waiting.remove(kind)
            outcome = disturb(run, kind, draw, self._step_seconds)
            self.outcomes.append(outcome)
            self.say(f"round {number}, fault {len(self.outcomes)}: {describe(outcome)}")
            if run.has_ended():
                return

    def _compare(self, workload: Workload, number: int) -> None:
        """Compares a round with the undisturbed run, or with a replay of what was left out."""
        skips = read_rewinds(workload.run_dir / "history.jsonl")
        reference = self._reference
        if skips:
            reference = self._workload(
                f"replay-{number}", skips=tuple((after, count) for after, count in skips)
            )
            self._run_undisturbed(reference)
        found = problems_of(workload, reference)
        newest = RunDirectory(workload.run_dir).saved_steps()[-1]
        if workload.store is not None:
            there = workload.store.whole_steps(workload.mirror)
            found += [] if newest in there else [f"the mirror lacks step {newest}: {there}"]
        self.problems += [f"round {number}: {one}" for one in found]
        self.say(f"round {number}: " + ("; ".join(found) or "equal bit for bit"))


def describe(outcome: Outcome) -> str:
    """Returns what came of a fault in a line."""
    if not outcome.possible:
        return f"{outcome.kind}: not possible here: {outcome.problem}"
    seen = {True: "detected", False: "not detected", None: "nothing to detect"}[outcome.detected]
    end = "recovered" if outcome.recovered else f"NOT RECOVERED: {outcome.problem}"
    return (
        f"{outcome.kind} at step {outcome.step}: {seen}, {end}; "
        f"{outcome.steps_lost} steps and {outcome.seconds_lost:.1f} s lost"
    )


@contextlib.contextmanager
def _own_disk(folder: pathlib.Path) -> Iterator[None]:
    """Makes a folder a small disk of its own, where this user may."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    try:
        yield
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _large(folder: str, names: list[str]) -> set[str]:
    """Leaves checkpoints and events out of what is kept of a round."""
    del folder
    return {"checkpoints", "tensorboard"} & set(names)
