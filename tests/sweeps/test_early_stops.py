"""A sweep killed around the moment when a run stops early comes to the same rows and verdicts."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.outcomes import rows_without_times

from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps.leases import read_attempts

SCRIPT = """
import dataclasses, os, signal, sys
from pathlib import Path
from support.tiny_sweep import base
from jaxgen.sweeps import EarlyStopping, Sweep
from jaxgen.sweeps import early_stopping, leases, worker
from jaxgen.sweeps.in_process import run_one
from jaxgen.runs.checkpoints import Checkpoints
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine
from jaxgen.training.tracking import MetricsFile

folder, place, before = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def kill(*arguments, **more):
    os.kill(os.getpid(), signal.SIGKILL)

def kill_at(kind, name, step):
    plain = getattr(kind, name)
    def call(self, first, *arguments):
        at = first["step"] if isinstance(first, dict) else first
        kill() if at == step else plain(self, first, *arguments)
    setattr(kind, name, call)

def rate(name, peak):
    config = base("train.steps=12")
    train = dataclasses.replace(config.train, schedule=WarmupCosine(peak, 1))
    return dataclasses.replace(config, name=name, train=train)

sweep = Sweep(
    "rates", "1", [rate("good", 0.03), rate("hopeless", 1e-5), rate("fair", 0.027)],
    early_stopping=EarlyStopping(margin=0.5, after_tokens=4 * 128),
    execution=ExecutionConfig(log_every=1, checkpoint_every=3, trackers=()),
)
good, hopeless, fair = sweep.runs
if place == "never":
    pass
elif place == "before its row":
    kill_at(MetricsFile, "log", before)
elif place == "after its row":
    kill_at(early_stopping.EarlyStoppingTracker, "log", before)
elif place == "before it is recorded":
    worker._stop = kill
elif place == "before the lease ends":
    leases.Lease.release = kill
elif place == "at the checkpoint before":
    kill_at(Checkpoints, "save", (before - 1) // 3 * 3)
names = sys.argv[4].split(",")
for config in sweep.runs:
    if config.name in names:
        status = run_one(sweep, config, folder, retries=0)
        print("state", config.name, status.state, status.why, sep="|")
"""
ROOT = Path(__file__).parents[2]
PLACES = [
    "before its row",
    "after its row",
    "before it is recorded",
    "before the lease ends",
    "at the checkpoint before",
]


def sweep(folder, place="never", step=0, names="good,hopeless,fair"):
    """Runs the sweep, one after another, in a process; returns its status and the runs' states."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), place, str(step), names],
        env=os.environ | {"PYTHONPATH": path, "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
    )
    lines = [line.split("|")[1:] for line in done.stdout.splitlines() if line.startswith("state|")]
    return done, {name: (state, why) for name, state, why in lines}


def rows_of(folder):
    return {name: rows_without_times(folder / name) for name in ("good", "hopeless", "fair")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "undisturbed"
    done, states = sweep(folder)
    assert done.returncode == 0, done.stderr
    assert [state for state, _ in states.values()] == ["finished", "stopped", "finished"]
    assert "of good" in states["hopeless"][1]
    return rows_of(folder), states, folder


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_sweep_killed_around_an_early_stop_comes_to_the_same(place, undisturbed, tmp_path):
    rows, states, whole = undisturbed
    stop = rows["hopeless"][-1]["step"]
    assert 3 < stop < 12
    # What finished before it is as it was.
    (tmp_path / "runs").mkdir()
    subprocess.run(["cp", "-rp", str(whole / "good"), str(tmp_path / "runs")], check=True)
    done, _ = sweep(tmp_path / "runs", place, stop, "hopeless")
    assert done.returncode == -signal.SIGKILL, done.stderr
    done, found = sweep(tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert found == states
    assert rows_of(tmp_path / "runs") == rows
    hopeless = RunDirectory(tmp_path / "runs" / "hopeless")
    assert hopeless.read_record()["stopped"] == states["hopeless"][1]
    outcomes = [attempt.outcome for attempt in read_attempts(hopeless)]
    assert len(outcomes) == 2 and outcomes[-1] == "stopped"
    starts = [json.loads(line) for line in hopeless.history_file.read_text().splitlines()]
    assert starts[0]["step"] == 0 and len(starts) == 2
