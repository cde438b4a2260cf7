"""The contrastive runs that come with jaxgen learn, are evaluated and resume, on a mesh too."""

import json
import shutil

import jax
import numpy as np
import pytest

from jaxgen.configuration import load_run
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import Task, sources_of
from jaxgen.data.text_files import Jsonl
from jaxgen.errors import DataError
from jaxgen.runs.data_record import check_data
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.sharding.mesh import MeshConfig
from jaxgen.training.execution import ExecutionConfig

SMALL = (
    "train.batch_size=32", "evaluation.num_batches=1", "evaluation.batch_size=32",
    "retrieval.num_pairs=32", "zero_shot.num_examples=32", "stack.num_layers=1",
    "model.num_layers=1", "execution.log_every=1", "warmup_cosine.warmup=2",
)  # fmt: skip


def settings(steps, name="contrastive"):
    return load_run([f"runs/{name}.gin"], [*SMALL, f"train.steps={steps}"])


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [MeshConfig(data=1), MeshConfig(2, fsdp=2, tensor=2)])
def test_a_run_learns_and_tells_chance_and_intervals(tmp_path, mesh):
    config, _ = settings(12)
    execution, devices = ExecutionConfig(mesh, log_every=1), jax.devices()
    devices = devices if mesh.fsdp > 1 else devices[:1]
    record = run(config, tmp_path / "run", execution, devices, show_progress=False).record
    rows = read_metrics(RunDirectory(tmp_path / "run").metrics_file)
    assert rows[0]["loss"] == pytest.approx(np.log(32), rel=0.35)
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.2
    assert {"text_of_image", "image_of_text", "scale"} <= rows[0].keys()
    found = record["evaluation"]
    assert found["sprites"]["loss_unit"] == "nats/pair" and "perplexity" not in found["sprites"]
    retrieval = found["retrieval"]
    low, high = retrieval["text_of_image_interval"]
    assert low <= retrieval["text_of_image"] <= high
    assert retrieval["chance"] == 1 / 32 and retrieval["num_examples"] == 32
    assert found["colour"]["chance"] == pytest.approx(1 / 8)
    assert found["shape"]["chance"] == pytest.approx(1 / 6)


def test_files_of_pairs_are_recorded_and_a_change_is_refused(tmp_path):
    (tmp_path / "pairs.jsonl").write_text('{"file": "a.png", "txt": "a"}')
    config = ImageTextPairs(Task("photos", Jsonl(str(tmp_path / "pairs.jsonl"))), 8)
    check_data(tmp_path / "data.json", sources_of(config), True, False)
    (tmp_path / "pairs.jsonl").write_text('{"file": "b.png", "txt": "b"}')
    with pytest.raises(DataError, match=r"photos: pairs\.jsonl differs"):
        check_data(tmp_path / "data.json", sources_of(config), False, False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["contrastive", "contrastive_sigmoid"])
def test_a_stopped_run_ends_bit_for_bit_as_one_that_was_not(tmp_path, name):
    config, _ = settings(8, name)
    one = ExecutionConfig(log_every=1, checkpoint_every=4)
    whole = run(config, tmp_path / "whole", one, show_progress=False).record
    stopped = tmp_path / "stopped"
    run(config, stopped, one, show_progress=False)
    # Without its later checkpoint and its end, it goes on from step 4.
    directory = RunDirectory(stopped)
    shutil.rmtree(directory.checkpoints / "8")
    found = json.loads(directory.run_file.read_text())
    directory.run_file.write_text(json.dumps(found | {"finished": False}))
    again = run(config, stopped, one, show_progress=False).record
    assert again["evaluation"] == whole["evaluation"]
