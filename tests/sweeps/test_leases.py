"""A lease has one holder, and counts as lost when its process is gone."""

import concurrent.futures
import dataclasses
import json
import os
import subprocess
import sys
import time

import pytest

from jaxgen.errors import CheckpointError
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps import leases
from jaxgen.sweeps.leases import LeaseMonitor, acquire, read_attempts


def test_one_of_many_processes_acquires_a_run(tmp_path):
    directory = RunDirectory(tmp_path)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number in range(10):
            found = list(pool.map(lambda _, n=number: acquire(directory, n), range(8)))
            assert sum(lease is not None for lease in found) == 1
    assert [attempt.number for attempt in read_attempts(directory)] == list(range(1, 11))
    assert len(os.listdir(tmp_path / "attempts")) == 10


def test_an_attempt_lives_as_long_as_its_process(tmp_path):
    directory, monitor = RunDirectory(tmp_path), LeaseMonitor()
    code = (
        "import sys\nfrom jaxgen.sweeps.leases import acquire\n"
        "from jaxgen.runs.run_directory import RunDirectory\n"
        "acquire(RunDirectory(sys.argv[1]), 0)\nprint('taken', flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "taken\n"
    (attempt,) = read_attempts(directory)
    assert monitor.is_alive(directory, attempt)
    process.kill()
    process.wait()
    assert not monitor.is_alive(directory, attempt)
    process.communicate()


def test_heartbeats_of_another_host_are_seen(tmp_path, monkeypatch):
    directory, clock = RunDirectory(tmp_path), [100.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: clock[0])
    monitor = LeaseMonitor(timeout_seconds=60)
    lease = acquire(directory, 0)
    assert lease is not None
    attempt = dataclasses.replace(lease.attempt, host="elsewhere", process="1:1")
    for beat, now, alive in ((0, 100, True), (0, 159, True), (1, 165, True), (1, 220, True),
                             (1, 226, False), (2, 230, True)):  # fmt: skip
        clock[0] = now
        assert monitor.is_alive(directory, dataclasses.replace(attempt, beat=beat)) is alive
    ended = dataclasses.replace(attempt, beat=3, outcome="failed")
    assert not monitor.is_alive(directory, ended)


def test_a_process_that_lost_its_lease_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.01)
    asked = []
    monkeypatch.setattr(leases.os, "kill", lambda *arguments: asked.append(arguments))
    lease = acquire(RunDirectory(tmp_path), 0)
    assert lease is not None
    with lease.heartbeat():
        while read_attempts(RunDirectory(tmp_path))[0].beat < 2:
            time.sleep(0.01)
        assert acquire(RunDirectory(tmp_path), 1) is not None
        while not asked:
            time.sleep(0.01)
    assert asked[0][0] == os.getpid()


def test_a_file_that_is_not_an_attempt_is_named(tmp_path):
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts" / "0001.json").write_text(json.dumps({"number": 1}))
    with pytest.raises(CheckpointError, match=r"0001\.json cannot be read"):
        read_attempts(RunDirectory(tmp_path))
