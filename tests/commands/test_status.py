"""`jaxgen status`: where runs stand, here and in object stores."""

import datetime
import json
import os
import time

import fsspec
import pytest

from jaxgen.cli import main
from jaxgen.runs.run_directory import RunDirectory

LAST_ROW = 1_790_000_000
STARTED = datetime.datetime.fromtimestamp(LAST_ROW - 80, datetime.UTC).isoformat()
ROWS = [
    {"step": 10, "tokens": 1000, "loss": 3.0, "tokens_per_second": None, "seconds_left": None},
    {"step": 20, "tokens": 2000, "loss": 2.5, "tokens_per_second": 100.0, "seconds_left": 20.0},
    {
        "step": 30,
        "tokens": 3000,
        "loss": 2.25,
        "tokens_per_second": 100.0,
        "seconds_left": 10.0,
        "goodput": 0.25,
    },
]
START = {"started": "2026-11-27T10:00:00+00:00", "step": 0, "host": "n1", "num_devices": 4,
         "mesh": {"data": 2, "fsdp": 2, "tensor": 1}}  # fmt: skip


def write_run(folder, **record):
    files = {
        "config.gin": "",
        "run.json": json.dumps({"steps": 40, "first_started": STARTED} | record),
        "metrics.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
        "history.jsonl": json.dumps(START) + "\n" + json.dumps(START | {"step": 20}) + "\n",
        "checkpoints/20/_CHECKPOINT_METADATA": "{}",
        "checkpoints/30/_CHECKPOINT_METADATA": "{}",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    os.utime(folder / "metrics.jsonl", (LAST_ROW, LAST_ROW))
    return folder


def test_a_run_here(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    assert main(["status", str(run)]) == 0
    printed = capsys.readouterr().out
    assert f"{run}: stopped, step 30 of 40 (75 %), loss 2.2500, 100 tokens/s, 0:10 left" in printed
    assert "goodput 25 %" in printed
    assert "started 2 times" in printed and "4 device(s), data=2 x fsdp=2" in printed
    assert "checkpoints of steps 20, 30" in printed


def test_a_run_at_work_shows_its_heartbeats_and_what_has_stalled(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    with open(run / "history.jsonl", "a") as file:
        file.write(json.dumps({"event": "restart", "step": 20}) + "\n")
    (run / "heartbeats").mkdir()
    for process, ago in enumerate((5, 500)):
        beat = {"process": process, "process_id": 1, "time": time.time() - ago, "step": 31}
        beat |= {"phase": "step", "limit": 60.0, "error": None}
        (run / "heartbeats" / f"{process}.json").write_text(json.dumps(beat))
    with RunDirectory(run).lock():
        assert main(["status", str(run)]) == 0
    printed = capsys.readouterr().out
    first, second = [line for line in printed.splitlines() if "last heartbeat" in line]
    assert "process 0: step 31 completed, step, last heartbeat 0:0" in first
    assert first.endswith("ago") and second.endswith("8:20 ago; stalled")
    assert "started 2 times" in printed  # The restart is a line of its own, and no start.


def test_what_failed_is_said_and_is_the_status(tmp_path, capsys):
    failed = write_run(tmp_path / "failed", failed="the loss of code is not finite at step 31")
    finished = write_run(tmp_path / "finished", finished=True)
    assert main(["status", str(finished), str(failed)]) == 1
    printed = capsys.readouterr().out
    assert "failed: the loss of code is not finite at step 31" in printed
    assert f"{finished}: finished, step 30" in printed and f"{failed}: failed, step 30" in printed


def test_a_run_in_an_object_store(tmp_path, store, capsys):
    run = write_run(tmp_path / "run")
    fs = fsspec.filesystem(store)
    fs.put(str(run), "corpus/runs/", recursive=True)
    url = f"{store}://corpus/runs/run"
    assert main(["status", url]) == 0
    printed = capsys.readouterr().out
    assert f"{url}: stopped, step 30 of 40" in printed
    assert "checkpoints of steps 20, 30" in printed


@pytest.mark.parametrize("name", ["nowhere", "memory://nowhere"])
def test_what_is_no_run_is_named(name, capsys):
    assert main(["status", name]) == 1
    assert "not a run directory" in capsys.readouterr().err
