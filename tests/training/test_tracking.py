"""Trackers that fail, hang or meet a full disk, and the rows of a run, which are kept whole."""

import dataclasses
import functools
import json
import shutil
import threading
import time
import warnings

import pytest
from support.disks import fill

from jaxgen.configuration import load_text
from jaxgen.errors import CheckpointError, JaxgenWarning
from jaxgen.files import append_rows, read_rows
from jaxgen.runs import run as runs
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.tracker_thread import TrackerThread
from jaxgen.training.tracking import MetricsFile, TensorBoard

CONFIG = """
include 'base.gin'
include 'mixtures/quickstart.gin'
run.name = 'tracked'
mixture.tasks = [@addition/task()]
mixture.weights = {'addition': 1.0}
model.num_layers = 1
model.embed_dim = 8
model.num_heads = 1
model.mlp_dim = 8
model.vocab_size = 320
train.steps = 6
train.batch_size = 8
train.length = 32
warmup_cosine.peak = 1e-3
evaluation.num_examples = 8
evaluation.num_batches = 1
evaluation.batch_size = 8
"""
NEVER = threading.Event()


@dataclasses.dataclass(frozen=True)
class Tracker:
    """Raises, or waits for ever, where it is told to."""

    raises_in: str = ""
    hangs_in: str = ""
    seen: list[int] = dataclasses.field(default_factory=list)

    def open(self, run_dir):
        self._reach("open")
        return self

    def log(self, row):
        self._reach("log")
        self.seen.append(row["step"])

    def close(self):
        self._reach("close")

    def _reach(self, where):
        if self.raises_in == where:
            raise RuntimeError(f"no {where} today\nand more lines")
        if self.hangs_in == where:
            NEVER.wait()


def thread_of(config, folder, **settings):
    opening = functools.partial(config.open, folder)
    return TrackerThread(type(config).__name__, opening, **settings)


def log_and_close(tracker, steps=8, pause=0.02):
    """Logs rows, closes, and returns the notes and the longest time that a call took."""
    longest = 0.0
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        for step in range(steps):
            begun = time.monotonic()
            tracker.log({"step": step, "loss": 2.0})
            longest = max(longest, time.monotonic() - begun)
            time.sleep(pause)
        begun = time.monotonic()
        tracker.close()
        closing = time.monotonic() - begun
    ours = [str(note.message) for note in notes if note.category is JaxgenWarning]
    return ours, longest, closing


@pytest.mark.parametrize("where", ["open", "log", "close"])
def test_a_tracker_that_raises_is_dropped_with_one_line(where, tmp_path):
    notes, _, _ = log_and_close(thread_of(Tracker(raises_in=where), tmp_path))
    (note,) = notes
    assert note.startswith(f"the tracker Tracker is dropped (RuntimeError: no {where} today)")


@pytest.mark.parametrize("where", ["open", "log", "close"])
def test_a_tracker_that_hangs_holds_nothing_up(where, tmp_path):
    tracker = thread_of(Tracker(hangs_in=where), tmp_path, queued_rows=4, close_seconds=0.3)
    notes, longest, closing = log_and_close(tracker)
    (note,) = notes
    assert ("did not end within 0.3 s" if where == "close" else "4 rows behind") in note
    assert longest < 0.2 and closing < 1.0


def test_a_tracker_that_works_gets_every_row_in_order(tmp_path):
    config = Tracker()
    notes, _, _ = log_and_close(thread_of(config, tmp_path), steps=50, pause=0)
    assert not notes and config.seen == list(range(50))


@pytest.mark.slow
def test_training_outlives_its_trackers_and_keeps_every_row(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "TrackerThread", functools.partial(TrackerThread, close_seconds=0.2))
    works = Tracker()
    bad = [Tracker(raises_in="open"), Tracker(raises_in="log"), Tracker(raises_in="close"),
           Tracker(hangs_in="log"), Tracker(hangs_in="close")]  # fmt: skip
    execution = ExecutionConfig(log_every=1, trackers=(*bad, works, TensorBoard()))
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    with pytest.warns(JaxgenWarning) as notes:
        record = runs.run(load_text(CONFIG), tmp_path, execution, show_progress=False).record
    assert record["finished"]
    steps = [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")]
    assert steps == works.seen == [1, 2, 3, 4, 5, 6]
    lines = [str(note.message) for note in notes if "is dropped" in str(note.message)]
    assert len(lines) == 6 and sum("TensorBoard" in line for line in lines) == 1


def test_tensorboard_on_a_folder_that_vanishes_or_cannot_be_made(tmp_path):
    tracker = thread_of(TensorBoard(), tmp_path)
    tracker.log({"step": 1, "loss": 2.0})
    deadline = time.monotonic() + 10
    while not list(tmp_path.glob("tensorboard/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    shutil.rmtree(tmp_path / "tensorboard")
    log_and_close(tracker)  # Its open file takes the rows; nothing is raised, and nothing waits.
    (tmp_path / "tensorboard").write_text("")
    (note,), _, _ = log_and_close(thread_of(TensorBoard(), tmp_path))
    assert "FileExistsError" in note


def test_tensorboard_on_a_full_disk(small_disk):
    fill(small_disk)
    (note,), longest, _ = log_and_close(thread_of(TensorBoard(), small_disk), steps=30, pause=0.01)
    assert "No space left on device" in note and longest < 0.2


def test_rows_wait_for_room_on_a_full_disk(small_disk):
    metrics = MetricsFile(small_disk / "metrics.jsonl")
    metrics.log({"step": 1})
    filling = fill(small_disk)
    rows = [{"step": step, "text": "x" * 5000} for step in range(2, 5)]
    with pytest.warns(JaxgenWarning, match="kept until there is room") as notes:
        for row in rows:
            metrics.log(row)
    assert len(notes) == 1
    assert [row["step"] for row in whole_rows(small_disk / "metrics.jsonl")] == [1]
    with pytest.raises(CheckpointError, match="cannot append to"):
        metrics.close()
    filling.unlink()
    metrics.log({"step": 5})
    metrics.close()
    assert whole_rows(small_disk / "metrics.jsonl") == [{"step": 1}, *rows, {"step": 5}]


def whole_rows(path):
    """Returns the rows as a reader who knows nothing of jaxgen finds them."""
    text = path.read_bytes()
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_reader_finds_whole_lines_while_they_are_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.touch()
    is_written, faults, reads = threading.Event(), [], []

    def read():
        while not is_written.is_set():
            text = path.read_bytes()
            try:
                steps = [json.loads(line)["step"] for line in text.splitlines()[-20:]]
            except ValueError as error:
                faults.append(error)
            else:
                reads.append(steps[-1:])
                if text and (not text.endswith(b"\n") or steps != sorted(steps)):
                    faults.append(text[-80:])

    reader = threading.Thread(target=read)
    reader.start()
    for step in range(1500):
        append_rows(path, [{"step": step} | {f"loss/{task}": step + 0.125 for task in range(20)}])
    is_written.set()
    reader.join()
    assert not faults and reads[0] != reads[-1]
    assert [row["step"] for row in whole_rows(path)] == list(range(1500))


@pytest.mark.parametrize(
    ("tail", "steps"),
    [('{"step": 3, "lo', [1, 2]), ('{"step": 3}', [1, 2, 3]), ("\x00\x00", [1, 2]), ("", [1, 2])],
)
def test_a_row_that_a_kill_cut_short_is_gone_at_the_next_start(tail, steps, tmp_path):
    path = tmp_path / "metrics.jsonl"
    long = {"text": "x" * 200_000}
    append_rows(path, [{"step": 1} | long, {"step": 2}])
    with open(path, "a") as file:
        file.write(tail)
    MetricsFile(path)
    assert [row["step"] for row in whole_rows(path)] == steps
