"""The tiny Stable Diffusion 3: trained two steps, evaluated, and asked for pictures."""

import json

import numpy as np
import pytest
from PIL import Image
from support.picture_runs import FEW, train

from jaxgen.cli import main
from jaxgen.runs.run_directory import RunDirectory, read_metrics


@pytest.mark.slow
def test_it_trains_and_draws(tmp_path):
    run_dir = tmp_path / "run"
    train("diffusion/stable_diffusion_3", run_dir, *FEW, "--gin.execution.log_every=1")
    losses = [row["loss"] for row in read_metrics(RunDirectory(run_dir).metrics_file)]
    assert len(losses) == 2 and np.isfinite(losses).all()
    rows = [json.loads(line) for file in (run_dir / "evals").iterdir() for line in file.open()]
    assert any("made_pictures" in json.dumps(row) for row in rows)
    file = tmp_path / "circle.png"
    asked = ["generate", f"--run_dir={run_dir}", "--prompt=a red circle", f"--output={file}"]
    assert main([*asked, "--sampler_steps=2", "--negative_prompt=a green ring"]) == 0
    picture = np.asarray(Image.open(file))
    assert picture.shape == (16, 16, 3) and picture.std() > 1
