"""Runs trained on what an encoder made of captions: prepared, trained, refused, asked anew."""

import json

import numpy as np
import pytest
from PIL import Image
from support.picture_runs import UNET, pair_run, train

from jaxgen.cli import main
from jaxgen.data.image_files import encode_png
from jaxgen.runs.run_directory import RunDirectory, read_metrics

CIRCLE = "a red circle at the top left"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixteen stored pairs, and a contrastive run whose text tower reads captions."""
    folder = tmp_path_factory.mktemp("encoded")
    random = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    rows = []
    for number in range(16):
        pixels = random.integers(0, 256, (16, 16, 3), np.uint8)
        (folder / "pictures" / f"{number}.png").write_bytes(encode_png(pixels))
        rows.append({"image": f"pictures/{number}.png", "caption": f"a square, number {number}"})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair_run(folder / "clip")
    return folder


def flags(folder):
    return [
        "--gin.ENCODER='../clip'", *UNET, "--gin.image_text_pairs.task=@pairs/task()",
        "--gin.pairs/task.name='pairs'", "--gin.pairs/task.source=@jsonl()",
        f"--gin.jsonl.pattern='{folder}/pairs.jsonl'", "--gin.jsonl.heldout_fraction=0.25",
        "--gin.pairs/task.preprocessors=(@decode_media(),)",
        f"--gin.decode_media.folder='{folder}'", "--gin.decode_media.images={'image': 'image'}",
        "--gin.image_text_pairs.text='caption'",
        "--gin.caption_encoder.drop=0.5", "--gin.evaluation.evaluators=()",
        "--gin.unet.multipliers=(1,)", "--gin.unet.attention=('joint',)",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_learns_from_kept_states_as_from_the_encoder(folder, capsys):
    own = flags(folder)
    train("diffusion/imagen", folder / "whole", *own)
    prepare = ["prepare", "--captions", "--gin_file=runs/diffusion/imagen.gin"]
    assert main([*prepare, *own, f"--output={folder}/states"]) == 0
    assert "17 captions" in capsys.readouterr().out
    kept = [f"--gin.image_text_pairs.encodings='{folder}/states'"]
    kept += ["--gin.caption_encoder.precomputed=True"]
    train("diffusion/imagen", folder / "kept", *own, *kept)
    losses = [
        [row["loss"] for row in read_metrics(RunDirectory(folder / name).metrics_file)]
        for name in ("whole", "kept")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    record = RunDirectory(folder / "kept").read_record()
    made_by = record["initialized_parts"]["conditioner"]["parameters"]
    manifest = json.loads((folder / "states" / "encodings.json").read_text())
    assert made_by == manifest["encoder"]["parameters"]
    # Prompts of one's own are read by the encoder's run, which is beside this one.
    made = []
    for name in ("whole", "kept"):
        output = folder / f"{name}.png"
        asked = ["generate", f"--run_dir={folder}/{name}", f"--prompt={CIRCLE}"]
        assert main([*asked, f"--output={output}", "--sampler_steps=2"]) == 0
        made.append(np.asarray(Image.open(output)).astype(int))
    assert np.abs(made[0] - made[1]).max() <= 1
    # Another encoder of the same shapes is none of theirs.
    pair_run(folder / "unlike", "--gin.train.seed=5")
    run = ["train", "--gin_file=runs/diffusion/imagen.gin", f"--run_dir={folder}/refused"]
    assert main([*run, *own[1:], *kept, "--gin.ENCODER='../unlike'"]) == 1
    assert "was made by another encoder" in capsys.readouterr().err
