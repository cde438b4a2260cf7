"""The supervisor: what it starts again, what it does not, and what it leaves behind."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from support.disks import fill
from support.outcomes import rows_without_times
from support.tiny_sweep import BINDINGS, steps_logged

from jaxgen.errors import RESTART_STATUS
from jaxgen.files import read_rows
from jaxgen.launch import local, supervisor
from jaxgen.launch.local import run_processes
from jaxgen.launch.supervisor import Supervisor
from jaxgen.runs.run_directory import RunDirectory, read_metrics

BEGINNING = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
here, index = Path(sys.argv[1]), int(os.environ["JAX_PROCESS_ID"])
with open(here / f"starts{index}", "a") as file:
    file.write("x")
start = len((here / f"starts{index}").read_text())
"""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(local, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(supervisor, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "STUCK_GRACE_SECONDS", 0.1)


def run(folder, script, restarts, processes=1, **options):
    """Returns the status, how often process 0 was started, and the reasons of the restarts."""
    (folder / "history.jsonl").touch()
    (folder / "script.py").write_text(BEGINNING + script)
    command, reasons = [sys.executable, str(folder / "script.py"), str(folder)], []
    status = run_processes(
        command, processes, 1, "cpu", restarts, folder,
        on_restart=lambda restart: reasons.append(restart.reason), **options,
    )  # fmt: skip
    lines = [line["reason"] for line in read_rows(folder / "history.jsonl")]
    assert lines == reasons
    return status, len((folder / "starts0").read_text()), reasons


def is_alive(process_id):
    try:
        return Path(f"/proc/{process_id}/stat").read_text().split()[2] not in "ZX"
    except FileNotFoundError:
        return False


def test_all_start_again_until_they_succeed_and_none_is_left(tmp_path):
    """Process 1 fails twice with a child of its own; process 0 waits for it in vain."""
    script = f"""
if start < 3:
    if index == 1:
        child = subprocess.Popen(["sleep", "600"])
        with open(here / "children", "a") as file:
            file.write(f"{{child.pid}} ")
        sys.exit({RESTART_STATUS})
    time.sleep(600)
"""
    status, starts, reasons = run(tmp_path, script, 5, processes=2)
    assert (status, starts, reasons) == (0, 3, [f"exit status {RESTART_STATUS}"] * 2)
    for child in (tmp_path / "children").read_text().split():
        while is_alive(child):
            time.sleep(0.05)


def test_a_crash_loop_is_told_from_a_failure(tmp_path, capfd):
    assert run(tmp_path, "sys.exit(3)", 9) == (3, 2, ["exit status 3"])
    assert "failed twice at step 0 in the same way: exit status 3" in capfd.readouterr().err


def test_restarts_are_counted_anew_after_a_checkpoint(tmp_path, capfd):
    """Different errors, with a checkpoint at the third start: one restart, one, and one more."""
    script = """
if start == 2:
    (here / "checkpoints" / "8").mkdir(parents=True)
sys.exit(10 + start)
"""
    status, starts, _ = run(tmp_path, script, 1)
    assert (status, starts) == (13, 3)
    assert "no checkpoint after 1 restart(s)" in capfd.readouterr().err


def test_without_restarts_a_failure_is_the_end(tmp_path):
    assert run(tmp_path, f"sys.exit({RESTART_STATUS})", 0) == (RESTART_STATUS, 1, [])


def test_the_wait_doubles(monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_WAIT_SECONDS", 1.0)
    judge = Supervisor(20, None)
    restarts = [judge.next_restart(0, 1, RESTART_STATUS) for _ in range(12)]
    waits = [one.wait_seconds for one in restarts if one is not None]
    assert waits[:5] == [1, 2, 4, 8, 16] and waits[-1] == supervisor.LONGEST_WAIT_SECONDS


def test_a_signal_to_the_supervisor_reaches_all_and_starts_nothing_again(tmp_path):
    script = f"""
signal.signal(signal.SIGTERM, lambda *_: sys.exit({RESTART_STATUS}))
(here / f"ready{{index}}").touch()
time.sleep(600)
"""

    def send():
        while len(list(tmp_path.glob("ready*"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send).start()
    assert run(tmp_path, script, 5, processes=2) == (RESTART_STATUS, 1, [])


def test_a_suspended_process_is_found_by_its_heartbeat(tmp_path):
    script = """
if start == 1:
    (here / "heartbeats").mkdir()
    beat = {"process": 0, "process_id": os.getpid(), "time": time.time(), "step": 4}
    beat |= {"phase": "step", "limit": 0.5, "error": None}
    (here / "heartbeats" / "0.json").write_text(json.dumps(beat))
    os.kill(os.getpid(), signal.SIGSTOP)
"""
    assert run(tmp_path, script, 5) == (0, 2, ["SIGKILL"])


def test_a_clock_that_is_set_makes_no_process_look_stuck(tmp_path, monkeypatch):
    """An hour forward, then back; by its own clock a second passes each time."""
    monkeypatch.setattr(supervisor, "STUCK_GRACE_SECONDS", 5.0)
    (tmp_path / "heartbeats").mkdir()
    beat = {"process": 0, "process_id": 7, "time": time.time(), "step": 4}
    beat |= {"phase": "step", "limit": 10.0, "error": None}
    (tmp_path / "heartbeats" / "0.json").write_text(json.dumps(beat))
    judge, now, wall = Supervisor(1, tmp_path), time.monotonic(), time.time()
    found = []
    for seconds, hours in ((0, 0), (2, 1), (4, -1), (14, 0), (17, 0)):
        monkeypatch.setattr(time, "monotonic", lambda at=now + seconds: at)
        monkeypatch.setattr(time, "time", lambda at=wall + seconds + 3600 * hours: at)
        found.append(judge.stuck([7]))
    assert found == [[], [], [], [], [0]]


def test_a_full_disk_keeps_a_restart_out_of_the_history_alone(small_disk, capfd):
    (small_disk / "history.jsonl").touch()
    judge, filler = Supervisor(3, small_disk), fill(small_disk)
    restart = judge.next_restart(0, 1, RESTART_STATUS)
    assert restart is not None and "cannot append" in capfd.readouterr().err
    filler.unlink()
    assert judge.next_restart(0, 1, RESTART_STATUS) is not None
    assert [line["number"] for line in read_rows(small_disk / "history.jsonl")] == [2]


def train(run_dir, **options):
    bindings = [*BINDINGS, "train.steps=60", "train.batch_size=8", "evaluation.batch_size=8"]
    bindings += ["execution.log_every=2", "execution.checkpoint_every=6"]
    bindings += ["execution.watchdog_minutes=0.4"]
    flags = [f"--gin.{one}" for one in bindings]
    words = ["train", "--gin_file=runs/quickstart.gin", f"--run_dir={run_dir}", *flags]
    command = [sys.executable, "-m", "jaxgen", *words]
    assert run_processes(command, 2, 4, "cpu", 3, run_dir, **options) == 0
    return RunDirectory(run_dir)


def what_counts(directory):
    rows = rows_without_times(directory.path)
    newest = directory.checkpoints / str(directory.saved_steps()[-1])
    return rows, (newest / "record" / "metadata").read_text(), directory.read_record()["evaluation"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_two_processes_end_as_if_nothing_had_happened(fault, tmp_path):
    """Killed, suspended for longer than the watchdog waits, or asked to stop, once."""
    whole = train(tmp_path / "whole")
    path, restarts, disturbed = tmp_path / "disturbed", [], []

    def disturb(process_ids):
        def wait_and_send():
            while len(steps_logged(RunDirectory(path))) < 8:
                time.sleep(0.02)
            os.kill(process_ids[1], fault)

        if not disturbed:
            disturbed.append(process_ids)
            threading.Thread(target=wait_and_send, daemon=True).start()

    directory = train(path, on_start=disturb, on_restart=restarts.append)
    assert len(restarts) == 1 and restarts[0].step > 0
    assert what_counts(directory) == what_counts(whole)
    assert read_metrics(directory.metrics_file)[-1]["goodput"] > 0
    lines = read_rows(directory.history_file)
    assert [line.get("event") for line in lines] == [None, "restart", None]
