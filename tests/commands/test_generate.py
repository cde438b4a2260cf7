"""Pictures through the command line: a palette, a short run, files in and out."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from jaxgen.cli import main
from jaxgen.data.image_files import encode_png

SMALL = [
    "--gin.train.steps=2", "--gin.train.batch_size=8",
    "--gin.model.num_layers=1", "--gin.execution.scan_unroll=1",
    "--gin.evaluation.num_batches=1", "--gin.evaluation.num_examples=4",
    "--gin.evaluation.batch_size=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a run of two steps on sprites."""
    folder = tmp_path_factory.mktemp("sprites")
    palette, run_dir = str(folder / "sprites.safetensors"), str(folder / "run")
    made = [
        "palette", "train", "sprites_drawn", "--patch=1x1", "--examples=400", f"--output={palette}",
        "--gin_file=tasks/sprites_drawn.gin", "--gin.mixture.name='one'",
        "--gin.mixture.tasks=(@sprites_drawn/task(),)",
    ]  # fmt: skip
    assert main(made) == 0
    flags = ["--gin_file=runs/sprites.gin", f"--gin.IMAGE_PALETTE={palette!r}", *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_CACHE", str(folder / "cache"))
        assert main(["train", *flags, f"--run_dir={run_dir}"]) == 0
    (folder / "sprites.safetensors").unlink()  # The run has its own copy.
    return run_dir


@pytest.mark.slow
def test_a_picture_is_written_with_its_prompt_and_seed(run, tmp_path, capsys):
    flags = [f"--run_dir={run}", "--prompt=a red circle at the top left", "--seed=3"]
    output = tmp_path / "made" / "circle.png"
    assert main(["generate", *flags, f"--output={output}", "--num_samples=2"]) == 0
    files = [output.with_name(f"circle-{number}.png") for number in range(2)]
    assert capsys.readouterr().out.split() == [str(file) for file in files]
    pictures = [Image.open(file) for file in files]
    assert [picture.size for picture in pictures] == [(12, 12)] * 2
    text = pictures[1].text  # pyright: ignore[reportAttributeAccessIssue]
    assert (text["prompt"], text["seed"], text["sample"]) == (
        "a red circle at the top left", "3", "1"
    )  # fmt: skip
    assert main(["generate", *flags, f"--output={tmp_path / 'again.png'}", "--num_samples=1"]) == 0
    guided = tmp_path / "guided.png"
    assert main(["generate", *flags, f"--output={guided}", "--guidance=2"]) == 0
    assert Image.open(guided).size == (12, 12)


@pytest.mark.slow
def test_a_picture_of_any_size_is_read_before_the_prompt(run, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode_png(np.full((40, 60, 3), 128, np.uint8)))
    flags = [f"--run_dir={run}", f"--image={photo}", "--max_tokens=4", "--temperature=0"]
    assert main(["generate", *flags, "--prompt=What"]) == 0
    assert capsys.readouterr().out.startswith("What")


@pytest.mark.slow
def test_a_palette_tells_what_it_loses_on_pictures_that_it_has_not_seen(tmp_path, capsys):
    errors = []
    for codes in (8, 400):
        flags = ["--patch=2x2", "--examples=1500", f"--codes={codes}"]
        path = str(tmp_path / f"{codes}.safetensors")
        assert main(["palette", "train", "sprites_drawn", *flags, f"--output={path}"]) == 0
        errors.append(float(re.search(r"squared error (\S+),", capsys.readouterr().out)[1]))  # pyright: ignore
    # All patches of training fit in 400 codes, and few of held-out pictures are none of them.
    assert 0 < errors[1] < errors[0] / 10
    output = f"--output={tmp_path / 'tones.safetensors'}"
    tones = ["tones_heard", "--field=sound", "--bands=40", "--examples=50"]
    assert main(["palette", "train", *tones, output]) == 0
    assert "PSNR" not in capsys.readouterr().out
    assert main(["palette", "train", *tones, "--rate=16000", output]) == 1
    assert "have [8000] samples a second, not 16000" in capsys.readouterr().err
    assert main(["palette", "train", "sprites_drawn", output]) == 1
    assert "give --patch=ROWSxCOLUMNS" in capsys.readouterr().err
    assert main(["palette", "train", "tones_heard", "--field=transcript", output]) == 1
    assert "--field=transcript is str" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, message",
    [
        (["--prompt=a", "--output=made.txt"], "a picture is written as .png"),
        (["--prompt=a", "--output=made.wav"], "the run's codec has no audio"),
        (["--prompt=a", "--image=none.png"], "none.png cannot be read"),
        (["--prompt=a", "--parallel_steps=4"], "without --output text is written"),
        (["--prompt=a", "--parallel_noise=1"], "--parallel_noise is of --parallel_steps"),
        (["--prompt=a", "--output=x.png", "--max_tokens=4"], "--max_tokens is of text"),
        (["--prompt=a", f"--output={__file__}/x.png"], "is a file, not a folder"),
    ],
)
def test_what_cannot_be_read_or_made_is_said(run, flags, message, capsys):
    assert main(["generate", f"--run_dir={run}", *flags]) != 0
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_pictures_are_scored_by_attribute_and_shown(run):
    with open(f"{run}/evals/00000002.jsonl") as file:
        rows = [json.loads(line) for line in file]
    drawn = [row for row in rows if row["task"] == "drawn"]
    assert len(drawn) == 4
    for row in drawn:
        assert {"count", "colour", "shape", "position"} <= row.keys()
        assert row["exact_match"] <= min(row["count"], row["colour"], row["shape"])
        data = base64.b64decode(row["made"].removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(data)).size == (12, 12)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--candidates=4", "--output=x.png"], "go together"),
        (["--rerank=r", "--output=x.png"], "go together"),
        (["--rerank=r", "--candidates=4"], "give --output=FILE.png"),
        (["--rerank=r", "--candidates=2", "--num_samples=3", "--output=x.png"], "fewer than"),
    ],
)
def test_candidates_that_nothing_chooses_among_are_refused(flags, message, capsys):
    assert main(["generate", "--run_dir=nowhere", "--prompt=x", *flags]) == 1
    assert message in capsys.readouterr().err
