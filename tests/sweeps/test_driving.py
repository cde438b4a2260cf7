"""Whole sweeps of real, tiny runs: killed, joined, retried, given up; each run is done once."""

import dataclasses
import os
import signal
import time

from support.tiny_sweep import ROOT, base, command, done, steps_logged, write_file

from jaxgen.cli import main
from jaxgen.files import append_rows
from jaxgen.studies.preregistration import outcomes
from jaxgen.sweeps import StopRule, Sweep, axis, grid, load_sweep
from jaxgen.sweeps.attempts import history
from jaxgen.sweeps.driving import drive
from jaxgen.sweeps.local import LocalEngine

STEPS = [2, 4]


def wait_for(condition, seconds=100):
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds
        time.sleep(0.05)


def test_killed_and_joined_it_does_each_run_once(tmp_path):
    """One process is killed with -9 after its first run; two go on together."""
    file, folder = write_file(tmp_path, "joined_sweep", 3), tmp_path / "runs"
    process = command(file, folder, "--jobs=1")
    wait_for(lambda: done(file))
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = done(file)
    both = [command(file, folder, "--jobs=1") for _ in range(2)]
    told = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert done(file) == [f"seed_{seed}" for seed in range(3)]
    directories = load_sweep(file).directories(folder)
    for directory in directories:
        assert steps_logged(directory) == STEPS
        outcomes = [record.outcome for record in history(directory)]
        assert outcomes[-1] == "finished" and outcomes.count("finished") == 1
    again = [history(directories[int(name[-1])]) for name in first]
    assert [len(records) for records in again] == [1] * len(first)
    owners = {history(directory)[-1].process for directory in directories}
    assert len(owners) == 3 and all("3 finished" in text for text in told)


def test_a_run_that_fails_is_tried_again_and_told(tmp_path):
    file, folder = write_file(tmp_path, "failing_sweep", 2, "fail_first", 3), tmp_path / "runs"
    process = command(file, folder, "--jobs=2")
    told, _ = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "failed: seed_0: ValueError: not yet" in told and "1 failed, 1 finished" in told
    directories = load_sweep(file).directories(folder)
    assert [record.outcome for record in history(directories[0])] == ["failed", "failed"]
    assert done(file) == ["seed_1"]
    # Started again it has its tries anew; one run in a process, as Slurm begins it.
    process = command(file, folder, "--only=0", "--retries=1")
    told, _ = process.communicate(timeout=100)
    assert process.returncode == 0 and "seed_0 finished" in told, told
    assert done(file) == ["seed_0", "seed_1"] and steps_logged(directories[0]) == STEPS


def kill_itself(directory):
    if not (directory.path / "mark").exists():
        (directory.path / "mark").write_text("")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_has_failed_and_a_hopeless_run_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    runs = grid(base(), axis("train.seed", [0, 1]))
    rule = StopRule(margin=1.0, after_tokens=512)
    sweep = Sweep("given_up", "1", runs, after=kill_itself, stop=rule)
    good, bad = sweep.directories(tmp_path)
    bad.path.mkdir()
    # A peer that is said to have been better than any can be.
    append_rows(bad.metrics_file, [{"step": 99, "tokens": 512, "loss": 0.001}])
    states = drive(sweep, tmp_path, LocalEngine(sweep, tmp_path, 1), runs=runs[:1])
    assert [state.state for state in states] == ["stopped"]
    assert "above the 0.0010 of seed_1" in states[0].why
    assert "stopped" in good.read_record() and not good.is_finished()
    # Without the rule it goes on where it was, and is retried when its process dies.
    sweep = dataclasses.replace(sweep, stop=None)
    states = drive(sweep, tmp_path, LocalEngine(sweep, tmp_path, 1), runs=runs[:1])
    assert [state.state for state in states] == ["finished"]
    assert [record.outcome for record in history(good)] == ["stopped", "failed", "finished"]
    assert "killed by signal 9" in history(good)[1].why


LADDER = """
from jaxgen.sweeps.ladder import Rung, climb
from jaxgen.sweeps import Sweep
from support.tiny_sweep import base
RUNGS = [Rung(f"w{width}", {"embed_dim": width, "mlp_dim": width}) for width in (32, 16, 8, 4)]
SWEEP = Sweep("ladder", "1", climb(base(), RUNGS, [0]), held_out=["w32"], title="Four widths")
"""


def test_the_largest_rung_is_predicted_before_it_begins(tmp_path, capsys, monkeypatch):
    file, folder = tmp_path / "held_out_sweep.py", tmp_path / "runs"
    file.write_text(LADDER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    sweep = [f"{file}", f"--run_dir={folder}", "--go"]
    assert main(["sweep", *sweep, "--only=w32-seed0"]) == 1
    assert "3 runs that the prediction of w32 rests on" in capsys.readouterr().err
    assert main(["sweep", f"{file}", f"--run_dir={folder}", "--engine=slurm", "--dry-run"]) == 0
    assert "--array=1-3" in capsys.readouterr().out
    assert main(["sweep", *sweep, "--jobs=2"]) == 0
    assert "the prediction of w32 is registered in" in capsys.readouterr().out
    told = outcomes(folder)
    assert told is not None
    (found,), (said,) = told["rungs"], told["registered"]["predictions"]
    assert found["late"] == [] and found["missing"] == []
    assert found["loss"]["by_run"].keys() == {"w32-seed0"}
    assert {point["run"] for point in said["points"]} == {
        "w4-seed0", "w8-seed0", "w16-seed0",
    }  # fmt: skip
    assert "w32" in (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    assert main(["report", str(folder)]) == 0
    assert "<title>Four widths" in (folder / "report.html").read_text()
    assert main(["sweep", *sweep]) == 0
    assert "was registered before" in capsys.readouterr().out


def descended(**settings) -> Sweep:
    """A run that begins with another's parameters stands in front of it."""
    first, second = grid(base(), axis("train.seed", [0, 1]))
    child = dataclasses.replace(second, name="child", initialize_from=f"../{first.name}")
    return Sweep("descended", "1", [child, first], **settings)


def fail_without_child(directory):
    if directory.path.name != "child":
        raise ValueError("not today")


def test_a_run_waits_for_the_one_whose_parameters_it_begins_with(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    sweep = descended(after=fail_without_child)
    engine = LocalEngine(sweep, tmp_path / "failing", 2)
    states = drive(sweep, tmp_path / "failing", engine, retries=0)
    assert [state.state for state in states] == ["refused", "failed"]
    assert states[0].why == "the run seed_0, whose parameters it begins with, did not finish"
    sweep = descended()
    states = drive(sweep, tmp_path / "runs", LocalEngine(sweep, tmp_path / "runs", 2))
    assert [state.state for state in states] == ["finished", "finished"]
    child, first = (one.read_record() for one in sweep.directories(tmp_path / "runs"))
    assert child["initialized_from"]["fingerprint"] == first["fingerprint"]
    assert len(history(sweep.directories(tmp_path / "runs")[0])) == 1
