"""A run that begins with another's parameters: the same on any mesh, or it says why not."""

import dataclasses
import shutil

import jax
import pytest
from support.tiny_sweep import base

from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.runs.slim import slim_copy
from jaxgen.runs.warm_start import parents_of
from jaxgen.sharding.mesh import MeshConfig
from jaxgen.training.execution import ExecutionConfig


def configured(name, *bindings, **changes):
    config = base("train.steps=1", *bindings)
    return dataclasses.replace(config, name=name, **changes)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """Two steps at a rate that moves the parameters far from where they began."""
    folder = tmp_path_factory.mktemp("runs") / "parent"
    bindings = ["train.steps=2", "warmup_cosine.peak=0.1", "warmup_cosine.warmup=0"]
    return run(
        configured("parent", *bindings), folder, devices=jax.devices()[:1], show_progress=False
    )


def child(parent, tmp_path, *bindings, fsdp=1, **changes):
    mesh, devices = MeshConfig(data=1, fsdp=fsdp), jax.devices()[:fsdp]
    config = configured("child", *bindings, initialize_from=str(parent.directory.path), **changes)
    execution = ExecutionConfig(mesh=mesh)
    return run(config, tmp_path / "child", execution, devices, show_progress=False).record


def losses(record):
    return {task: scores["loss"] for task, scores in record["evaluation"].items()}


STILL = "warmup_cosine.peak=1e-12"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bindings", "fsdp"),
    [([], 1), (["train.optimizer=@muon()"], 1), (["model.dropout=0.1"], 1), ([], 2)],
)
def test_it_begins_where_the_other_ended(bindings, fsdp, parent, tmp_path):
    """At a rate of nothing the child's losses are the parent's, and not those of fresh ones."""
    told = child(parent, tmp_path, STILL, *bindings, fsdp=fsdp)
    assert losses(told) == pytest.approx(losses(parent.record), rel=1e-4)
    fresh = run(
        configured("fresh", STILL),
        tmp_path / "fresh",
        devices=jax.devices()[:1],
        show_progress=False,
    )
    assert losses(fresh.record) != pytest.approx(losses(parent.record), rel=1e-2)
    said = told["initialized_from"]
    assert said["name"] == "parent" and said["steps"] == 2
    assert said["fingerprint"] == parent.record["fingerprint"]


def test_a_relative_directory_is_seen_from_the_runs_own():
    config = configured("child", initialize_from="../base")
    found = parents_of(config, RunDirectory("/study/child"))
    assert {part: str(one.path) for part, one in found.items()} == {"": "/study/base"}
    assert parents_of(configured("fresh"), RunDirectory("/study/fresh")) == {}


def test_what_does_not_fit_is_refused_before_training(parent, tmp_path):
    with pytest.raises(ConfigError, match=r"embed_dim: 8 -> 16") as error:
        child(parent, tmp_path / "wide", "model.embed_dim=16")
    assert "embedding" in str(error.value) and "Give the run the model of the other" in str(error)
    with pytest.raises(CheckpointError, match=r"nowhere, which is no run directory"):
        config = configured("child", initialize_from="../nowhere")
        run(config, tmp_path / "child", devices=jax.devices()[:1], show_progress=False)
    begun = RunDirectory(tmp_path / "begun")
    begun.prepare()
    begun.config_file.write_text(parent.directory.config_file.read_text())
    begun.write_record(parent.directory.read_record() | {"finished": False})
    with pytest.raises(CheckpointError, match="has not finished"):
        config = configured("child", initialize_from="../begun")
        run(config, tmp_path / "other", devices=jax.devices()[:1], show_progress=False)


def test_a_slim_copy_has_all_that_is_needed(parent, tmp_path):
    """The state of an optimizer is neither in it nor read."""
    slim_copy(parent.directory, tmp_path / "slim")
    config = configured("child", STILL, initialize_from="../slim")
    told = run(config, tmp_path / "child", devices=jax.devices()[:1], show_progress=False).record
    assert losses(told) == pytest.approx(losses(parent.record), rel=1e-4)


def test_an_import_need_not_have_been_trained(parent, tmp_path):
    imported = RunDirectory(tmp_path / "imported")
    shutil.copytree(parent.directory.path, imported.path)
    record = imported.read_record() | {"finished": False, "imported_from": "llama"}
    imported.write_record(record)
    config = configured("child", STILL, initialize_from="../imported")
    told = run(config, tmp_path / "child", devices=jax.devices()[:1], show_progress=False).record
    assert losses(told) == pytest.approx(losses(parent.record), rel=1e-4)
    assert told["initialized_from"]["imported_from"] == "llama"
    assert "flops" not in told["initialized_from"]


def test_other_tokens_are_refused(parent, tmp_path):
    copied = RunDirectory(tmp_path / "copied")
    copied.prepare()
    copied.config_file.write_text(parent.directory.config_file.read_text())
    copied.write_record(parent.directory.read_record() | {"codec_digest": "another"})
    config = configured("child", initialize_from="../copied")
    with pytest.raises(ConfigError, match="trained on tokens of another, and this run's are of"):
        run(config, tmp_path / "child", devices=jax.devices()[:1], show_progress=False)
