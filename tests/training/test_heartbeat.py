"""Heartbeats, the watchdog, and the share of time that counts."""

import json
import threading
import time

import pytest

from jaxgen.errors import RESTART_STATUS
from jaxgen.training import heartbeat, timing
from jaxgen.training.heartbeat import Heartbeat, is_stuck, read_heartbeats
from jaxgen.training.timing import Phase, PhaseClock


def test_a_process_that_does_not_get_on_is_ended_and_its_stacks_are_kept(tmp_path, capsys):
    ended, statuses = threading.Event(), []

    def end(status):
        statuses.append(status)
        ended.set()

    (tmp_path / heartbeat.FOLDER).mkdir()
    other = {"process": 1, "process_id": 1, "time": 0.0, "step": 6, "phase": "data"}
    other |= {"limit": None, "error": None}
    (tmp_path / heartbeat.FOLDER / "1.json").write_text(json.dumps(other))
    with Heartbeat(tmp_path, 0, 2, limit=0.5, end=end) as beat:
        for step in range(8):  # Slower than the limit together, and not one by one.
            beat.enter("step", step)
            time.sleep(0.1)
        assert not statuses
        assert ended.wait(60)
    assert statuses == [RESTART_STATUS]
    told = capsys.readouterr().err
    assert "process 0: step 7 completed, then step" in told
    assert "process 1: step 6 completed, then data" in told
    stacks = (tmp_path / heartbeat.FOLDER / "0.stacks").read_text()
    assert "watchdog_minutes" in stacks and "in test_a_process_that_does_not_get_on" in stacks


def test_compiling_may_take_longer_and_without_a_limit_anything_may(tmp_path):
    cases: tuple[tuple[float | None, Phase], ...] = ((0.2, "compiling"), (None, "step"))
    for limit, phase in cases:
        statuses = []
        with Heartbeat(tmp_path, limit=limit, end=statuses.append) as beat:
            beat.enter(phase)
            time.sleep(0.5)
        assert not statuses


def test_a_heartbeat_tells_the_last_step_and_the_error(tmp_path):
    with pytest.raises(ValueError), Heartbeat(tmp_path, 3, 4, limit=60.0) as beat:
        beat.enter("step", 11)
        beat.enter("data", 12)
        raise ValueError("a bad row")
    (found,) = read_heartbeats(tmp_path)
    told = (found["process"], found["step"], found["phase"], found["error"])
    assert told == (3, 12, "data", "ValueError: a bad row")
    assert not is_stuck(found, found["time"] + 59) and is_stuck(found, found["time"] + 61)
    # A later start with fewer processes leaves no heartbeat of those that are no more.
    with Heartbeat(tmp_path, 0, 2):
        assert [beat["process"] for beat in read_heartbeats(tmp_path)] == [0]


def test_goodput_is_the_share_of_the_time_that_kept_steps_took(monkeypatch):
    """By hand: 100 s since the first start; 40 s of kept steps before it stopped, 20 s lost."""
    now = 1000.0
    monkeypatch.setattr(timing.time, "time", lambda: now)
    monkeypatch.setattr(timing.time, "monotonic", lambda: now)
    clock = PhaseClock(first_started=900.0, rows=[(10, 25.0), (20, 15.0), (30, 20.0)])
    clock.go_on_from(20)
    assert clock.goodput() == pytest.approx(0.4)
    phases: tuple[tuple[Phase, float], ...] = (
        ("compiling", 30), ("data", 5), ("step", 60), ("checkpoint", 5),
    )  # fmt: skip
    for phase, seconds in phases:
        clock.enter(phase)
        now += seconds
    row = clock.columns(30)
    assert row == pytest.approx({
        "compile_seconds": 30, "data_wait_seconds": 5, "step_seconds": 60,
        "checkpoint_seconds": 5, "evaluation_seconds": 0, "goodput": 0.5,
    })  # fmt: skip
    assert clock.columns(40)["step_seconds"] == 0
