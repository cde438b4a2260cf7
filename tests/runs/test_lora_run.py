"""A run of adapters: upon another's parameters, continued, written out, and nothing else moved."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from support.helpers import one_device_mesh, one_row
from support.tiny_sweep import base

from jaxgen.cli import main
from jaxgen.configuration import load
from jaxgen.errors import ConfigError
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.lora_config import LoraConfig
from jaxgen.models.parameters import Frozen, named_parameters
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.sharding.mesh import MeshConfig
from jaxgen.training.execution import ExecutionConfig

MOVING = ["warmup_cosine.peak=0.1", "warmup_cosine.warmup=0", "train.steps=2"]


def start(config, folder, fsdp=1):
    execution = ExecutionConfig(mesh=MeshConfig(data=1, fsdp=fsdp))
    return run(config, folder, execution, jax.devices()[:fsdp], show_progress=False)


def tuned(name, *bindings, **changes):
    config = base(*MOVING, *bindings)
    model = LoraConfig(config.model, 2, dora=True)
    return dataclasses.replace(config, name=name, model=model, **changes)


def model_of(folder):
    """The model of a run's last checkpoint, outside of any mesh."""
    mesh = one_device_mesh()
    with jax.set_mesh(mesh):
        model = restore(folder, mesh).model
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), model)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of the bare model, and one of adapters that begins with it."""
    folder = tmp_path_factory.mktemp("runs")
    start(dataclasses.replace(base(*MOVING), name="bare"), folder / "bare")
    start(tuned("tuned", initialize_from="../bare"), folder / "tuned")
    return folder


@pytest.mark.slow
def test_the_parents_parameters_are_tuned_by_adapters_alone(runs):
    parent = {n: np.asarray(p[...]) for n, p in named_parameters(model_of(runs / "bare"))}
    model = model_of(runs / "tuned")
    found = {n: np.asarray(p[...]) for n, p in named_parameters(model.without_adapters())}
    assert found.keys() == parent.keys()
    for name, value in parent.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    moved = [n for n, p in named_parameters(model) if not isinstance(p, Frozen)]
    assert len(moved) == 7 * 3
    products = [np.abs(p[...]).max() for n, p in named_parameters(model) if n.endswith(".b")]
    assert min(products) > 0


@pytest.mark.slow
def test_at_no_rate_it_scores_as_its_parent_and_another_of_it_goes_on(runs, tmp_path):
    def losses(folder):
        record = json.loads((folder / "run.json").read_text())
        return {task: scores["loss"] for task, scores in record["evaluation"].items()}

    still = "warmup_cosine.peak=1e-12"
    start(tuned("still", still, initialize_from=str(runs / "bare")), tmp_path / "still", fsdp=2)
    assert losses(tmp_path / "still") == pytest.approx(losses(runs / "bare"), rel=1e-4)
    start(tuned("on", still, initialize_from=str(runs / "tuned")), tmp_path / "on")
    assert losses(tmp_path / "on") == pytest.approx(losses(runs / "tuned"), rel=1e-4)
    assert losses(runs / "tuned") != pytest.approx(losses(runs / "bare"), rel=1e-3)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_bits(runs, tmp_path):
    config = tuned("four", "train.steps=4", initialize_from=str(runs / "bare"))
    execution, device = ExecutionConfig(checkpoint_every=2), jax.devices()[:1]
    run(config, tmp_path / "whole", execution, device, show_progress=False)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    (last,) = (tmp_path / "again" / "checkpoints").glob("*4")
    shutil.rmtree(last)
    record = tmp_path / "again" / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"finished": False}))
    run(config, tmp_path / "again", execution, device, show_progress=False)
    whole, again = (dict(named_parameters(model_of(tmp_path / one))) for one in ("whole", "again"))
    for name, parameter in whole.items():
        np.testing.assert_array_equal(parameter[...], again[name][...], err_msg=name)
    lines = (tmp_path / "again/history.jsonl").read_text().splitlines()
    starts = [json.loads(line) for line in lines]
    assert [one["step"] for one in starts] == [0, 2]


@pytest.mark.slow
def test_another_model_is_no_parent(runs, tmp_path):
    wide = dataclasses.replace(
        tuned("wide", initialize_from=str(runs / "bare")),
        model=LoraConfig(base("model.mlp_dim=16").model, 2),
    )
    with pytest.raises(ConfigError, match=r"feed_forward\.(down|gate|up) of shape .1, 8, 8"):
        start(wide, tmp_path / "wide")


@pytest.mark.slow
def test_an_export_is_merged_and_adapters_go_out_and_in(runs, tmp_path, capsys):
    model, row = model_of(runs / "tuned"), one_row(8, 300)
    expected = np.asarray(model.language_model.logits(model(row).hidden))
    assert main(["export", f"--run_dir={runs / 'tuned'}", f"--output={tmp_path / 'whole'}"]) == 0
    whole = load_model(open_checkpoint(tmp_path / "whole"))
    np.testing.assert_allclose(whole.logits(whole(row).hidden), expected, atol=1e-5)
    adapter = tmp_path / "adapter"
    assert main(["export", f"--run_dir={runs / 'tuned'}", f"--output={adapter}", "--adapter"]) == 0
    values = json.loads((adapter / "adapter_config.json").read_text())
    assert values["r"] == 2 and values["use_dora"] and values["lora_alpha"] == 16
    assert "self_attn.q_proj" in values["target_modules"]
    assert len(load_file(adapter / "adapter_model.safetensors")) == 7 * 3
    assert main(["export", f"--run_dir={runs / 'bare'}", f"--output={tmp_path / 'bare'}"]) == 0
    capsys.readouterr()
    flags = [f"--from={tmp_path / 'bare'}", f"--adapter={adapter}", f"--output={tmp_path / 'in'}"]
    assert main(["import", *flags]) == 0
    again = model_of(tmp_path / "in")
    np.testing.assert_allclose(again.language_model.logits(again(row).hidden), expected, atol=1e-5)
    no = ["export", f"--run_dir={runs / 'bare'}", f"--output={tmp_path / 'no'}", "--adapter"]
    assert main(no) == 1
    assert "has no adapters" in capsys.readouterr().err


def test_the_gin_files_wrap_the_runs_model():
    for name, is_dora in (("lora", False), ("dora", True)):
        config = load(["runs/quickstart.gin", f"tuning/{name}.gin"])
        assert isinstance(config.model, LoraConfig) and config.model.dora == is_dora
        assert config.model.model == load(["runs/quickstart.gin"]).model
