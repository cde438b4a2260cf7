"""Whole sweeps of real, tiny runs: killed, joined, retried, stopped; each run is done once."""

import dataclasses
import os
import signal
import time

import pytest
from support.tiny_sweep import EXECUTION, ROOT, base, command, done, steps_logged, write_file

from jaxgen.cli import main
from jaxgen.diagnostics.cooldown import branch, trunk
from jaxgen.files import append_rows
from jaxgen.studies.preregistration import outcomes
from jaxgen.studies.study_runs import read_runs
from jaxgen.sweeps import EarlyStopping, Sweep, axis, grid, load_sweep
from jaxgen.sweeps.leases import read_attempts
from jaxgen.sweeps.local_engine import LocalEngine
from jaxgen.sweeps.run_sweep import run_sweep
from jaxgen.sweeps.scheduler import run_all
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupStableDecay

STEPS = [2, 4]


@pytest.mark.slow
def test_killed_and_joined_it_does_each_run_once(tmp_path):
    """One process is killed with -9 after its first run; two go on together."""
    file, folder = write_file(tmp_path, "joined_sweep", 3), tmp_path / "runs"
    process = command(file, folder, "--jobs=1")
    while not done(file):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = done(file)
    both = [command(file, folder, "--jobs=1") for _ in range(2)]
    output = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    assert done(file) == [f"seed_{seed}" for seed in range(3)]
    directories = load_sweep(file).directories(folder)
    for directory in directories:
        assert steps_logged(directory) == STEPS
        outcomes = [attempt.outcome for attempt in read_attempts(directory)]
        assert outcomes[-1] == "finished" and outcomes.count("finished") == 1
    again = [read_attempts(directories[int(name[-1])]) for name in first]
    assert [len(records) for records in again] == [1] * len(first)
    owners = {read_attempts(directory)[-1].process for directory in directories}
    assert len(owners) == 3 and all("3 finished" in text for text in output)


@pytest.mark.slow
def test_a_run_that_fails_is_tried_again_and_output(tmp_path):
    file, folder = write_file(tmp_path, "failing_sweep", 2, "fail_first", 3), tmp_path / "runs"
    process = command(file, folder, "--jobs=2")
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "failed: seed_0: ValueError: not yet" in output and "1 failed, 1 finished" in output
    directories = load_sweep(file).directories(folder)
    assert [attempt.outcome for attempt in read_attempts(directories[0])] == ["failed", "failed"]
    assert done(file) == ["seed_1"]
    # Started again it has its tries anew; one run in a process, as Slurm begins it.
    process = command(file, folder, "--only=0", "--retries=1")
    output, _ = process.communicate()
    assert process.returncode == 0 and "seed_0 finished" in output, output
    assert done(file) == ["seed_0", "seed_1"] and steps_logged(directories[0]) == STEPS


def kill_itself(directory):
    if not (directory.path / "mark").exists():
        (directory.path / "mark").write_text("")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_dies_has_failed_and_a_hopeless_run_stops_early(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    runs = grid(base(), axis("train.seed", [0, 1]))
    rule = EarlyStopping(margin=1.0, after_tokens=512)
    settings = {"early_stopping": rule, "execution": EXECUTION}
    sweep = Sweep("hopeless", "1", runs, after=kill_itself, **settings)
    good, bad = sweep.directories(tmp_path)
    bad.path.mkdir()
    # A peer with a loss that no run can have.
    append_rows(bad.metrics_file, [{"step": 99, "tokens": 512, "loss": 0.001}])
    statuses = run_all(sweep, tmp_path, LocalEngine(sweep, tmp_path, 1), runs=runs[:1])
    assert [status.state for status in statuses] == ["stopped"]
    assert "above the 0.0010 of seed_1" in statuses[0].why
    assert "stopped" in good.read_record() and not good.is_finished()
    # Without the rule it goes on where it was, and is retried when its process dies.
    sweep = dataclasses.replace(sweep, early_stopping=None)
    statuses = run_all(sweep, tmp_path, LocalEngine(sweep, tmp_path, 1), runs=runs[:1])
    assert [status.state for status in statuses] == ["finished"]
    assert [attempt.outcome for attempt in read_attempts(good)] == ["stopped", "failed", "finished"]
    assert "killed by signal 9" in read_attempts(good)[1].why


LADDER = """
from jaxgen.sweeps import Change, Sweep, ladder
from support.tiny_sweep import EXECUTION, base
RUNGS = [
    Change(f"w{width}", {"model.embed_dim": width, "model.mlp_dim": width})
    for width in (32, 16, 8, 4)
]
SWEEP = Sweep(
    "ladder", "1", ladder(base(), RUNGS, [0]), held_out=["w32"], title="Four widths",
    execution=EXECUTION,
)
"""


@pytest.mark.slow
def test_the_largest_rung_is_predicted_before_it_begins(tmp_path, capsys, monkeypatch):
    file, folder = tmp_path / "held_out_sweep.py", tmp_path / "runs"
    file.write_text(LADDER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    sweep = [f"{file}", f"--run_dir={folder}", "--go"]
    assert main(["sweep", *sweep, "--only=w32-seed0"]) == 1
    assert (
        "the prediction of w32 is fitted to runs of which 3 have not finished"
        in capsys.readouterr().err
    )
    assert main(["sweep", f"{file}", f"--run_dir={folder}", "--engine=slurm", "--dry-run"]) == 0
    assert "--array=1-3" in capsys.readouterr().out
    assert main(["sweep", *sweep, "--jobs=2"]) == 0
    assert "the prediction of w32 is registered in" in capsys.readouterr().out
    result = outcomes(folder)
    assert result is not None
    (found,), (prediction,) = result["rungs"], result["registered"]["predictions"]
    assert found["late"] == [] and found["missing"] == []
    assert found["loss"]["by_run"].keys() == {"w32-seed0"}
    assert {point["run"] for point in prediction["points"]} == {
        "w4-seed0", "w8-seed0", "w16-seed0",
    }  # fmt: skip
    assert "w32" in (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    assert main(["report", str(folder)]) == 0
    assert "<title>Four widths" in (folder / "report.html").read_text()
    assert main(["sweep", *sweep]) == 0
    assert "is already registered" in capsys.readouterr().out


def dependent(**settings) -> Sweep:
    """Lists a run before the one whose parameters it begins with."""
    first, second = grid(base(), axis("train.seed", [0, 1]))
    child = dataclasses.replace(second, name="child", initialize_from=f"../{first.name}")
    return Sweep("dependent", "1", [child, first], **settings)


def fail_without_child(directory):
    if directory.path.name != "child":
        raise ValueError("not today")


@pytest.mark.slow
def test_a_run_waits_for_the_one_whose_parameters_it_begins_with(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    sweep = dependent(after=fail_without_child)
    engine = LocalEngine(sweep, tmp_path / "failing", 2)
    statuses = run_all(sweep, tmp_path / "failing", engine, retries=0)
    assert [status.state for status in statuses] == ["refused", "failed"]
    assert statuses[0].why == "the run seed_0, which it depends on, did not finish"
    sweep = dependent()
    statuses = run_all(sweep, tmp_path / "runs", LocalEngine(sweep, tmp_path / "runs", 2))
    assert [status.state for status in statuses] == ["finished", "finished"]
    child, first = (one.read_record() for one in sweep.directories(tmp_path / "runs"))
    assert child["initialized_from"]["fingerprint"] == first["fingerprint"]
    assert len(read_attempts(sweep.directories(tmp_path / "runs")[0])) == 1


@pytest.mark.slow
def test_cooldowns_branch_off_a_trunk(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    schedule = WarmupStableDecay(peak=0.01, warmup=1)
    one = dataclasses.replace(base().train, schedule=schedule)
    long = trunk(dataclasses.replace(base(), name="q", train=one), [4, 8], decay=0.5)
    runs = [branch(long, total, decay=0.5) for total in (8, 4)]
    branches = {run.name: long.name for run in runs}
    execution = ExecutionConfig(log_every=1, checkpoint_every="100%")
    sweep = Sweep("cooldowns", "1", [*runs, long], execution=execution, branches=branches)
    assert run_sweep(sweep, tmp_path, LocalEngine(sweep, tmp_path, 2)) == 0
    assert "3 finished" in capsys.readouterr().out
    directories = sweep.directories(tmp_path)
    assert [steps_logged(one) for one in directories] == [[5, 6, 7, 8], [3, 4], [1, 2, 3, 4]]
    # A trunk's rate has not decayed: it is not compared with the others.
    assert sorted(run.name for run in read_runs(tmp_path)) == ["q-4", "q-8"]
