"""Claims on runs: one taker, the dead are told from the living."""

import concurrent.futures
import dataclasses
import json
import os
import subprocess
import sys

import pytest

from jaxgen.errors import CheckpointError
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sweeps import attempts
from jaxgen.sweeps.attempts import Observer, history, take


def test_of_many_takers_one_wins(tmp_path):
    directory = RunDirectory(tmp_path)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number in range(10):
            taken = list(pool.map(lambda _, n=number: take(directory, n), range(8)))
            assert sum(attempt is not None for attempt in taken) == 1
    assert [record.number for record in history(directory)] == list(range(1, 11))
    assert len(os.listdir(tmp_path / "attempts")) == 10


def test_an_attempt_lives_as_long_as_its_process(tmp_path):
    directory, observer = RunDirectory(tmp_path), Observer()
    code = (
        "import sys\nfrom jaxgen.sweeps.attempts import take\n"
        "from jaxgen.runs.run_directory import RunDirectory\n"
        "take(RunDirectory(sys.argv[1]), 0)\nprint('taken', flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "taken\n"
    (record,) = history(directory)
    assert observer.is_alive(directory, record)
    process.kill()
    process.wait()
    assert not observer.is_alive(directory, record)
    process.communicate()


def test_of_another_host_the_beats_are_seen(tmp_path, monkeypatch):
    directory, clock = RunDirectory(tmp_path), [100.0]
    monkeypatch.setattr(attempts.time, "monotonic", lambda: clock[0])
    observer = Observer(patience_seconds=60)
    attempt = take(directory, 0)
    assert attempt is not None
    record = dataclasses.replace(attempt.record, host="elsewhere", process="1:1")
    for beat, now, alive in ((0, 100, True), (0, 159, True), (1, 165, True), (1, 220, True),
                             (1, 226, False), (2, 230, True)):  # fmt: skip
        clock[0] = now
        assert observer.is_alive(directory, dataclasses.replace(record, beat=beat)) is alive
    ended = dataclasses.replace(record, beat=3, outcome="failed")
    assert not observer.is_alive(directory, ended)


def test_whoever_lost_a_run_to_another_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(attempts, "BEAT_SECONDS", 0.01)
    asked = []
    monkeypatch.setattr(attempts.os, "kill", lambda *arguments: asked.append(arguments))
    attempt = take(RunDirectory(tmp_path), 0)
    assert attempt is not None
    with attempt.beating():
        while history(RunDirectory(tmp_path))[0].beat < 2:
            pass
        assert take(RunDirectory(tmp_path), 1) is not None
        for _ in range(500):
            if asked:
                break
            attempts.time.sleep(0.01)
    assert asked and asked[0][0] == os.getpid()


def test_a_file_that_is_no_attempt_is_named(tmp_path):
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts" / "0001.json").write_text(json.dumps({"number": 1}))
    with pytest.raises(CheckpointError, match=r"0001\.json cannot be read"):
        history(RunDirectory(tmp_path))
