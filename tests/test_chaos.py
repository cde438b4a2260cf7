"""tools/chaos: faults against real runs of two processes, and how it tells what was lost."""

import collections
import math
import os
import random
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"
sys.path.append(str(TOOLS))

from chaos_faults.faults import KINDS, Kind  # noqa: E402
from chaos_faults.injecting import Outcome, when_past  # noqa: E402
from chaos_faults.rounds import Campaign, schedule  # noqa: E402
from chaos_faults.running import Moment, Running  # noqa: E402
from chaos_faults.table import table  # noqa: E402


def chaos(folder: Path, *arguments: str) -> str:
    """Returns what it prints; fails unless all was recovered and each run is equal."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TOOLS), str(TOOLS.parent)])}
    done = subprocess.run(
        [sys.executable, "-m", "chaos_faults", f"--folder={folder}", *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def counts(printed: str) -> dict[str, list[str]]:
    """Returns by kind what the table has of it: injected, detected, recovered."""
    lines = re.findall(r"^\| (.+?) \| (\d+) \| (.+?) \| (\d+) \|", printed, re.MULTILINE)
    return {name: cells for name, *cells in lines}


def test_the_schedule_has_each_kind_once_before_any_comes_again():
    first = [kind for kind, _ in zip(schedule(3), range(2 * len(KINDS)), strict=False)]
    assert set(first[: len(KINDS)]) == set(first[len(KINDS) :]) == set(KINDS)
    again = [kind for kind, _ in zip(schedule(3), first, strict=False)]
    other = [kind for kind, _ in zip(schedule(4), first, strict=False)]
    assert again == first != other


def moments(*seen):
    return [Moment(float(time), process, step, "step") for time, process, step in seen]


def test_what_a_fault_costs_is_told_from_the_steps_that_were_seen():
    before = ((0, 7, 11), (1, 7, 12))
    assert when_past(moments(*before), resumes=True) is None
    killed = (*before, (9, 8, 10), (10, 8, 11), (11, 8, 12))
    assert when_past(moments(*killed), resumes=True) is None
    assert when_past(moments(*killed, (12, 8, 13)), resumes=True) == (12, 10, 12.0)
    # Killed twice, the second time before it had trained; and gone back in one process.
    twice = (*before, (9, 8, 10), (20, 9, 5), (21, 9, 13))
    assert when_past(moments(*twice), resumes=True) == (12, 5, 21.0)
    back = (*before, (3, 7, 10), (4, 7, 11), (5, 7, 13))
    assert when_past(moments(*back), resumes=True) == (12, 10, 5.0)
    # What must not interrupt a run is past two steps later.
    assert when_past(moments(*before, (2, 7, 13)), resumes=False) == (11, 11, 2.0)


def test_the_table_says_what_was_not_possible():
    outcomes = [
        Outcome("SIGKILL in the step", 9, True, True, 4, 11.0),
        Outcome("SIGKILL in the step", 9, False, False, 9, 31.0, "it hung"),
        Outcome("a full disk", 3, problem="only root may mount a small disk", possible=False),
    ]
    found = table(outcomes)
    assert "| SIGKILL in the step | 2 | 1 | 1 | 6.5, 9 | 21, 31 |" in found
    assert "| a full disk | not possible here: only root may mount a small disk |" in found


class Quick(Running):
    """A run that takes a step whenever it is looked at, and ends after the last."""

    def __init__(self, folder):
        self.workload = types.SimpleNamespace(steps=100)
        self.directory = types.SimpleNamespace(history_file=folder / "history.jsonl")
        self.moments, self.starts_again, self.log = [], 0, folder / "log.txt"
        self.log.touch()

    def look(self):
        if not self.has_ended():
            step = self.now.step + 1 if self.now else 0
            self.moments.append(Moment(time.monotonic(), 7, step, "step"))

    def has_ended(self):
        return self.now is not None and self.now.step == self.workload.steps


def test_a_fault_may_last_until_a_quick_run_is_nearly_over(tmp_path):
    """So it was with a store whose next attempt came after the last step but one."""
    run, said = Quick(tmp_path), []
    lasting = Kind("lasting", lambda run, draw: run.sleep(1e9), None, resumes=False)
    long = Kind("long", lambda run, draw: run.wait_for_step(98), None, resumes=False)
    campaign = Campaign(tmp_path, 3, run.workload.steps, said.append)
    for kind in (lasting, long):
        run.moments.clear()
        waiting = collections.deque([kind, kind])
        campaign.disturb_while_it_runs(run, 1, waiting, {""}, random.Random(1), math.inf)
        assert list(waiting) == [kind], "there was no time for the second"
        assert said.pop().startswith(f"round 1, fault {len(campaign.outcomes)}: {kind.name}")
        assert campaign.outcomes[-1].recovered
        run.finish()


FOUR = ("SIGKILL in the step", "SIGTERM to one", "a flipped bit in metadata", "data worker")


@pytest.mark.slow  # CI has a step of 12 faults.
def test_four_faults_leave_no_trace(tmp_path):
    only = [f"--only={name}" for name in FOUR]
    printed = chaos(tmp_path / "runs", "--seed=4", "--faults=4", "--steps=40", *only)
    assert [cells[2] for cells in counts(printed).values()] == ["1"] * 4
    assert "equal bit for bit" in printed


@pytest.mark.slow
def test_each_kind_of_fault_leaves_no_trace(tmp_path):
    printed = chaos(tmp_path / "runs", "--seed=2", f"--faults={len(KINDS)}", "--minutes=60")
    for name, (injected, _, recovered) in counts(printed).items():
        assert injected == recovered, name
