"""An autoencoder trains as a run, is exported, and its codes are those of another run."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.cli import main
from jaxgen.configuration import load_run
from jaxgen.errors import ConfigError
from jaxgen.evaluation.base import EvaluationContext
from jaxgen.evaluation.reconstructions import Reconstructions
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.execution import ExecutionConfig

SMALL = (
    "train.steps=8", "train.batch_size=16", "warmup_cosine.warmup=2", "evaluation.num_batches=1",
    "evaluation.batch_size=16", "reconstructions.num_examples=20", "image_autoencoder.hidden=16",
    "image_autoencoder.blocks=1",
)  # fmt: skip
ONE = ExecutionConfig(log_every=1, checkpoint_every=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a short run, and its record."""
    folder = tmp_path_factory.mktemp("codec") / "run"
    config, _ = load_run(["runs/codecs/fsq_sprites.gin"], SMALL)
    return folder, run(config, folder, ONE, show_progress=False).record


@pytest.mark.slow
def test_a_run_learns_and_tells_what_comes_back(trained):
    folder, record = trained
    rows = read_metrics(RunDirectory(folder).metrics_file)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert {"reconstruction", "psnr", "codes_used", "code_nats"} <= rows[0].keys()
    found = record["evaluation"]
    assert found["sprites"]["loss_unit"] == "error/number"
    rebuilt = found["reconstructions"]
    assert rebuilt["num_examples"] == 20 and 0 <= rebuilt["exact_match"] <= 1
    low, high = rebuilt["psnr_interval"]
    assert low <= rebuilt["psnr"] <= high
    assert 0 <= rebuilt["code_bits"] <= np.log2(125)


@pytest.mark.slow
def test_a_stopped_run_ends_bit_for_bit_as_one_that_was_not(trained, tmp_path):
    folder, record = trained
    stopped = RunDirectory(shutil.copytree(folder, tmp_path / "stopped"))
    shutil.rmtree(stopped.checkpoints / "8")
    kept = json.loads(stopped.run_file.read_text())
    stopped.run_file.write_text(json.dumps(kept | {"finished": False}))
    config, _ = load_run(["runs/codecs/fsq_sprites.gin"], SMALL)
    again = run(config, stopped.path, ONE, show_progress=False).record
    assert again["evaluation"] == record["evaluation"]


@pytest.mark.slow
def test_codes_of_an_exported_autoencoder_are_tokens_of_another_run(
    trained, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))
    file, other = str(tmp_path / "sprites.safetensors"), str(tmp_path / "other")
    assert main(["codec", "export", str(trained[0]), file]) == 0
    digest = capsys.readouterr().out.split()[-1]
    flags = [
        "--gin_file=runs/sprites_fsq.gin", f"--gin.IMAGE_CODEC={file!r}", "--gin.train.steps=2",
        "--gin.train.batch_size=8", "--gin.model.num_layers=1", "--gin.execution.scan_unroll=1",
        "--gin.evaluation.num_batches=1", "--gin.evaluation.num_examples=4",
        "--gin.evaluation.batch_size=8", "--gin.image_autoencoder.hidden=16",
        "--gin.image_autoencoder.blocks=1", f"--run_dir={other}",
    ]  # fmt: skip
    assert main(["train", *flags]) == 0
    assert digest in (tmp_path / "other" / "config.gin").read_text()
    (tmp_path / "sprites.safetensors").unlink()  # The run has its own copy.
    picture = tmp_path / "made.png"
    asked = ["--prompt=a red circle at the top left", f"--output={picture}"]
    assert main(["generate", f"--run_dir={other}", *asked]) == 0
    assert Image.open(picture).size == (12, 12)
    with (tmp_path / "other" / "image_codec.safetensors").open("ab") as changed:
        changed.write(b" ")
    assert main(["generate", f"--run_dir={other}", *asked]) == 1
    assert "only understands the codes it was trained with" in capsys.readouterr().err
    assert main(["codec", "export", other, file]) == 1


@pytest.mark.slow
def test_what_an_evaluator_cannot_compare_is_refused(trained):
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        restored = restore(trained[0], mesh)
        config = restored.config
        context = EvaluationContext(config.mixture, config.objective, 0, 16, 36)
        rows = Reconstructions(6, shown=2)(restored.model, context)
        assert [set(row) - {"instance"} for row in rows[1:3]] == [
            {"psnr", "code_bits", "made", "reference"}, {"psnr", "code_bits"}
        ]  # fmt: skip
        text = EvaluationContext(
            load_run(["runs/quickstart.gin"])[0].mixture, config.objective, 0, 16, 36
        )
        with pytest.raises(ConfigError, match="needs data of media alone"):
            Reconstructions()(restored.model, text)


@pytest.mark.slow
def test_a_kl_autoencoder_learns_and_ends_bit_for_bit_where_it_was_stopped(tmp_path):
    small = (
        *(one for one in SMALL if "image_autoencoder" not in one), "kl_autoencoder.width=16",
        "kl_autoencoder.discriminator=8", "realism.adversarial_weight=0.1", "realism.judged_from=4",
    )  # fmt: skip
    config, _ = load_run(["runs/codecs/kl_sprites.gin"], small)
    record = run(config, tmp_path / "run", ONE, show_progress=False).record
    rows = read_metrics(RunDirectory(tmp_path / "run").metrics_file)
    assert rows[-1]["reconstruction"] < rows[0]["reconstruction"]
    told = {"psnr", "kl", "latent_square", "perceptual", "adversarial", "discriminator"}
    assert told <= rows[0].keys()
    assert "code_bits" not in record["evaluation"]["reconstructions"]
    stopped = RunDirectory(shutil.copytree(tmp_path / "run", tmp_path / "stopped"))
    shutil.rmtree(stopped.checkpoints / "8")
    kept = json.loads(stopped.run_file.read_text())
    stopped.run_file.write_text(json.dumps(kept | {"finished": False}))
    again = run(config, stopped.path, ONE, show_progress=False).record
    assert again["evaluation"] == record["evaluation"]
