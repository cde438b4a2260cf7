"""A run that is moved from mesh to mesh is the run that stayed; its history says where it was."""

import dataclasses
import hashlib
from typing import Any

import jax
import numpy as np
import pytest
from support.accidents import StopAfter
from support.tiny_sweep import base

from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.files import read_rows
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.sharding.mesh import MeshConfig
from jaxgen.training import loop
from jaxgen.training.execution import ExecutionConfig

CONFIG = base(
    "train.steps=12", "train.batch_size=8", "model.num_layers=2", "model.num_heads=2",
    "model.embed_dim=16", "model.mlp_dim=16", "model.vocab_size=512",
)  # fmt: skip
ONE = ExecutionConfig(MeshConfig(data=1), log_every=1, checkpoint_every=3, trackers=())
EXECUTIONS = [
    ONE,
    dataclasses.replace(ONE, mesh=MeshConfig(data=1, fsdp=4), accumulation=2),
    dataclasses.replace(ONE, mesh=MeshConfig(data=1, tensor=2, stage=2), remat="full"),
    dataclasses.replace(ONE, scan_unroll=2, checkpoint_every="50%", attention="blockwise"),
]
STOPS = (4, 7, 10, None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directories of a run that stayed and of one that was on four meshes.

    With them come the digests of the batches that each start of them trained on.
    """
    folder, digests = tmp_path_factory.mktemp("trained"), []

    def watched(batch, *arguments):
        content = b"".join(np.asarray(array).tobytes() for array in jax.tree.leaves(batch))
        digests[-1].append(hashlib.sha256(content).hexdigest())
        return loop_put_batch(batch, *arguments)

    def start(name, execution, stop=None):
        digests.append([])
        devices = jax.devices()[: 1 if execution.mesh == ONE.mesh else 4]
        trackers = [] if stop is None else [StopAfter(stop)]
        return run(CONFIG, folder / name, execution, devices, False, more_trackers=trackers)

    loop_put_batch = loop.put_batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "put_batch", watched)
        start("stayed", ONE)
        for execution, stop in zip(EXECUTIONS, STOPS, strict=True):
            if stop is None:
                start("moved", execution)
            else:
                with pytest.raises(RuntimeError, match="an accident"):
                    start("moved", execution, stop)
    return RunDirectory(folder / "stayed"), RunDirectory(folder / "moved"), digests


@pytest.mark.slow
def test_losses_agree_and_batches_are_equal(trained):
    stayed, moved, (expected, *others) = trained
    ours, theirs = (read_metrics(one.metrics_file) for one in (moved, stayed))
    assert [row["step"] for row in ours] == list(range(1, 13))
    for name in ("loss", "objective", "gradient_norm"):
        np.testing.assert_allclose(
            [row[name] for row in ours], [row[name] for row in theirs], rtol=1e-5
        )
    for first, stop, found in zip((0, 3, 6, 9), (4, 7, 10, 12), others, strict=True):
        assert found[: stop - first] == expected[first:stop]
    scores = [one.read_record()["evaluation"] for one in (moved, stayed)]
    for task, expected_scores in scores[1].items():
        assert scores[0][task]["loss"] == pytest.approx(expected_scores["loss"], rel=1e-5)


@pytest.mark.slow
def test_every_start_is_a_line_of_the_history(trained):
    stayed, moved, _ = trained
    (only,) = read_rows(stayed.history_file)
    assert only["step"] == 0 and only["changed"] == [] and only["num_devices"] == 1
    lines = read_rows(moved.history_file)
    assert [line["step"] for line in lines] == [0, 3, 6, 9]
    assert [line["mesh"]["fsdp"] for line in lines] == [1, 4, 1, 1]
    assert lines[1]["execution"]["accumulation"] == 2 and lines[1]["versions"]["jax"]
    assert {
        "execution.accumulation: 1 -> 2", "execution.mesh.fsdp: 1 -> 4", "num_devices: 1 -> 4",
    } <= {*lines[1]["changed"]}  # fmt: skip
    assert "execution.remat: none -> full" in lines[2]["changed"]
    assert "execution.checkpoint_every: 3 -> 50%" in lines[3]["changed"]
    assert "execution.attention: auto -> blockwise" in lines[3]["changed"]
    # What the run is knows nothing of it.
    records = [one.read_record() for one in (stayed, moved)]
    assert records[0]["fingerprint"] == records[1]["fingerprint"]
    assert stayed.config_file.read_text() == moved.config_file.read_text()


@pytest.mark.slow
def test_what_a_run_is_may_not_change(trained):
    stayed, _, _ = trained
    other = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, batch_size=16))
    with pytest.raises(CheckpointError, match="batch_size: 8 -> 16"):
        run(other, stayed.path, ONE)


def test_an_execution_that_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match=r"batch_size=8 does not divide into .*accumulation=3"):
        run(CONFIG, tmp_path / "run", ExecutionConfig(accumulation=3))
    assert not (tmp_path / "run").exists()
    bad: list[tuple[dict[str, Any], str]] = [
        ({"log_every": "often"}, "execution.log_every='often' must be a duration"),
        ({"checkpoint_every": 0}, "execution.checkpoint_every=0 must be a duration above 0"),
        ({"keep_checkpoints": 0}, "execution.keep_checkpoints=0"),
        ({"data_workers": -1}, "execution.data_workers=-1"),
    ]
    for changes, message in bad:
        with pytest.raises(ConfigError, match=message):
            ExecutionConfig(**changes)
