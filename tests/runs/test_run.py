"""Runs as a person starts them: to the end, killed, changed, damaged."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.outcomes import newest_digests, rows_without_times
from support.tiers import slow_but

from jaxgen.cli import main
from jaxgen.errors import RESTART_STATUS
from jaxgen.files import read_rows

CONFIG = """
include 'base.gin'
include 'mixtures/quickstart.gin'

run.name = 'test'

mixture.tasks = [@addition/task(), @recall/task()]
mixture.weights = {'addition': 0.5, 'recall': 0.5}

model.num_layers = 2
model.embed_dim = 16
model.num_heads = 2
model.mlp_dim = 32
model.vocab_size = 320

train.steps = 60
train.batch_size = 4
execution.accumulation = 2
execution.noise_scale = True
train.length = 64
execution.log_every = 4
execution.checkpoint_every = 8
execution.keep_checkpoints = 3
warmup_cosine.peak = 1e-3

evaluation.num_examples = 8
evaluation.num_batches = 1
evaluation.batch_size = 8
"""
ENVIRONMENT = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "test.gin"
    path.write_text(CONFIG)
    return path


def start(config_file, run_dir, *bindings):
    command = [sys.executable, "-m", "jaxgen.train", f"--gin_file={config_file}"]
    return subprocess.Popen(
        [*command, f"--run_dir={run_dir}", *bindings],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=180)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def uninterrupted(config_file, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    code, out, err = finish(start(config_file, run_dir))
    assert code == 0, err
    assert "addition" in out and "held-out loss" in out
    return run_dir


def wait_for_step(process, run_dir, step):
    """Waits until a row of at least this step is written and a checkpoint is whole."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        rows = read_rows(Path(run_dir) / "metrics.jsonl")
        folders = [p.name for p in (Path(run_dir) / "checkpoints").glob("*")]
        if rows and rows[-1]["step"] >= step and any(name.isdigit() for name in folders):
            return
        time.sleep(0.01)
    pytest.fail(f"step {step} was not seen: {finish(process)}")


@pytest.mark.parametrize("how", slow_but([signal.SIGKILL], [signal.SIGKILL, signal.SIGTERM]))
def test_a_stopped_run_goes_on_bit_for_bit(how, config_file, uninterrupted, tmp_path):
    run_dir = tmp_path / "stopped"
    process = start(config_file, run_dir)
    wait_for_step(process, run_dir, 20)
    process.send_signal(how)
    code, _, err = finish(process)
    assert code != 0
    if how == signal.SIGTERM:
        assert "give the same command to go on" in err and "Traceback" not in err
        assert code == RESTART_STATUS
    assert rows_without_times(run_dir)[-1]["step"] < 60, "the run was over before it was stopped"
    begun = json.loads((run_dir / "run.json").read_text())["started"]
    code, _, err = finish(start(config_file, run_dir))
    assert code == 0, err
    record = json.loads((run_dir / "run.json").read_text())
    assert record["first_started"] == begun < record["started"]
    assert rows_without_times(run_dir) == rows_without_times(uninterrupted)
    assert newest_digests(run_dir) == newest_digests(uninterrupted)
    for name in ("evals/00000060.jsonl", "config.gin"):
        assert (run_dir / name).read_text() == (uninterrupted / name).read_text()


def test_a_run_directory_says_all(uninterrupted):
    record = json.loads((uninterrupted / "run.json").read_text())
    assert record["finished"] and record["steps"] == 60
    assert record["tokens"] == 60 * 4 * 64
    assert record["flops"] == record["tokens"] * record["flops_per_token"]
    assert record["codec_digest"] == "bytes"
    assert sum(record["shares"].values()) == pytest.approx(1)
    assert set(record["epochs"]) == set(record["tasks"])
    # A row of an instance each, and no instance twice.
    assert sum(record["examples"].values()) > 60 * 4
    rows = rows_without_times(uninterrupted)
    assert [row["step"] for row in rows] == list(range(4, 61, 4))
    for row in rows:
        assert abs(row["token_share/addition"] + row["token_share/recall"] - 1) < 1e-9
        assert row["noise_scale/variance"] > 0 and "noise_scale" in row
    instances = read_rows(uninterrupted / "evals" / "00000060.jsonl")
    assert len(instances) == 16
    assert {"exact_match", "token_accuracy", "log_probability"} <= instances[0].keys()
    assert list((uninterrupted / "tensorboard").iterdir())


def test_a_finished_run_is_only_read(config_file, uninterrupted):
    files = [uninterrupted / name for name in ("metrics.jsonl", "run.json", "history.jsonl")]
    before = [file.read_bytes() for file in files]
    code, out, _ = finish(start(config_file, uninterrupted))
    assert code == 0 and "addition" in out
    assert [file.read_bytes() for file in files] == before


def test_a_changed_configuration_is_refused_with_the_difference(config_file, uninterrupted):
    code, _, err = finish(start(config_file, uninterrupted, "--gin.train.batch_size=8"))
    assert code == 1 and "Traceback" not in err
    assert "train.batch_size: 4 -> 8" in err and "--run_dir" in err


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_named_and_nothing_is_lost(config_file, tmp_path):
    run_dir = tmp_path / "nan"
    code, _, err = finish(
        start(config_file, run_dir, "--gin.warmup_cosine.peak=1e30", "--gin.train.clip_norm=None")
    )
    assert code == 1 and "Traceback" not in err
    assert "not finite at step" in err and "warmup" in err
    for row in rows_without_times(run_dir):
        assert row["loss"] == row["loss"]


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        ("--gin.mesh.data=3", ["data=3", "8 are here"]),
        ("--gin.train.stpes=3", ["stpes", "steps"]),
        ("--gin.model.vocab_size=100", ["vocab_size=100", "259", "320"]),
        ("--gin.train.steps=fast", ["'fast'", "20x"]),
    ],
)
def test_bad_configurations_give_one_message(binding, words, config_file, tmp_path, capsys):
    assert (
        main(["train", f"--gin_file={config_file}", f"--run_dir={tmp_path / 'run'}", binding]) == 1
    )
    _, err = capsys.readouterr()
    assert "Traceback" not in err and err.startswith("error: ")
    for word in words:
        assert word in err


def test_a_run_directory_that_cannot_be_written_is_named(config_file, tmp_path):
    (tmp_path / "file").write_text("a file, not a folder")
    code, _, err = finish(start(config_file, tmp_path / "file" / "run"))
    assert code == 1 and "Traceback" not in err
    assert "cannot be written" in err and str(tmp_path / "file" / "run") in err
