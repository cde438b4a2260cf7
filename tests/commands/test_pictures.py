"""Pictures from noise through the command line: runs of two steps, cascades, files."""

import numpy as np
import pytest
from PIL import Image
from support.picture_runs import FEW, UNET, pair_run, train

from jaxgen.cli import main
from jaxgen.commands.pictures import GAP, grid_of
from jaxgen.data.image_files import encode_png

TINY = [
    "--gin.stack.num_layers=1", "--gin.stack.embed_dim=32", "--gin.stack.mlp_dim=32",
    "--gin.model.num_layers=1", "--gin.model.embed_dim=32", "--gin.dit.context_dim=32",
    "--gin.execution.scan_unroll=1", "--gin.euler.steps=2",
    "--gin.made_pictures.num_examples=8",
]  # fmt: skip
ROWS = [
    "--gin.model.num_layers=1", "--gin.model.embed_dim=32", "--gin.model.mlp_dim=32",
    "--gin.execution.scan_unroll=1", "--gin.euler.steps=2", "--gin.drawn_pictures.num_examples=8",
    "--gin.evaluation.num_examples=8",
    "--gin.picture_sampling.guidance=@guidance()", "--gin.guidance.scale=2.0",
]  # fmt: skip
CIRCLE = "a red circle at the top left"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a run of two steps of a transformer over pixels."""
    run_dir = tmp_path_factory.mktemp("pictures") / "run"
    train("diffusion/sprites", run_dir, *TINY)
    return run_dir


@pytest.fixture(scope="module")
def drawing(tmp_path_factory):
    """The directory of a run of two steps of one model for text and pictures."""
    run_dir = tmp_path_factory.mktemp("drawing") / "run"
    train("transfusion", run_dir, *ROWS)
    return run_dir


@pytest.mark.slow
def test_a_model_of_text_and_pictures_draws_what_it_is_prompted(drawing, tmp_path, capsys):
    """With the grid, notes and seeds of runs of diffusion; without --output it writes."""
    capsys.readouterr()
    flags = ["generate", f"--run_dir={drawing}", f"--prompt={CIRCLE}", "--prompt=a blue square"]
    flags += ["--num_samples=2", "--seed=3", "--negative_prompt=green"]
    assert main([*flags, f"--output={tmp_path}/made/"]) == 0
    named = capsys.readouterr().out.split()
    assert [name.rsplit("/", 1)[1] for name in named] == [
        *(f"{number:04d}.png" for number in range(4)), "grid.png",
    ]  # fmt: skip
    pictures = np.stack([np.asarray(Image.open(name)) for name in named[:4]])
    assert pictures.shape == (4, 16, 16, 3)
    assert len(np.unique(pictures, axis=0)) == 4
    with Image.open(named[3]) as picture:
        told = picture.text  # pyright: ignore[reportAttributeAccessIssue]
    assert told == {
        "prompt": "a blue square", "seed": "3", "sample": "3", "run_dir": str(drawing),
        "negative_prompt": "green",
    }  # fmt: skip
    begun_with = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    (tmp_path / "begun.png").write_bytes(encode_png(begun_with))
    mask = np.zeros_like(begun_with)
    mask[8:] = 255
    (tmp_path / "mask.png").write_bytes(encode_png(mask))
    begun = [f"--image={tmp_path}/begun.png", f"--mask={tmp_path}/mask.png", "--seed=4"]
    painted = tmp_path / "painted.png"
    assert main([*flags[:3], *begun, f"--output={painted}"]) == 0
    made = np.asarray(Image.open(painted)).astype(int)
    assert np.abs(made[:8] - begun_with[:8]).max() <= 1
    assert np.abs(made[8:] - begun_with[8:]).max() > 20
    capsys.readouterr()
    assert main([*flags[:3], "--max_tokens=4"]) == 0
    assert capsys.readouterr().out.startswith(CIRCLE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sampler_steps=3"], "without --output text is written"),
        (["--output=x.wav"], "written as .png"),
        (["--output=x.png", "--image=x.png"], "leaves open what becomes of it"),
        (["--output=x.png", "--image=x.png", "--mask=x.png", "--strength=0.5"], "leave --strength"),
        (["--output=x.png", "--top_p=0.5"], "--top_p is of models that write tokens"),
        (["--output=x.png", "--then={run}"], "reads texts alone"),
        (["--output=x.png", "--then=nosuch", "--step=999"], "nosuch is not a run directory"),
        (["--output=x.png", f"--prompt={'long ' * 40}"], "are 218 tokens, and rows have 128"),
    ],
)
def test_what_a_model_of_text_and_pictures_is_not_clear_about(
    drawing, flags, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    given = [flag.replace("{run}", str(drawing)) for flag in flags]
    assert main(["generate", f"--run_dir={drawing}", f"--prompt={CIRCLE}", *given]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_folder_of_pictures_has_a_grid_and_every_file_tells_how_it_was_made(
    run, tmp_path, capsys
):
    capsys.readouterr()
    flags = ["generate", f"--run_dir={run}", f"--prompt={CIRCLE}", "--prompt=a blue square"]
    flags += ["--num_samples=3", "--seed=5"]
    assert main([*flags, f"--output={tmp_path}/made/"]) == 0
    named = capsys.readouterr().out.split()
    files = [f"{tmp_path}/made/{number:04d}.png" for number in range(6)]
    assert named == [*files, f"{tmp_path}/made/grid.png"]
    with Image.open(files[4]) as picture:
        assert picture.size == (16, 16)
        told = picture.text  # pyright: ignore[reportAttributeAccessIssue]
    assert (told["prompt"], told["seed"], told["sample"]) == ("a blue square", "5", "4")
    with Image.open(named[-1]) as grid:
        assert grid.size == (3 * 16 + 2 * GAP, 2 * 16 + GAP)
    # The same again; one picture alone is the first of them.
    assert main([*flags, f"--output={tmp_path}/again/"]) == 0
    pictures = [
        np.asarray(Image.open(f"{tmp_path}/{folder}/0003.png")) for folder in ("made", "again")
    ]
    np.testing.assert_array_equal(pictures[0], pictures[1])


def test_a_picture_is_begun_with_and_a_part_is_painted_anew(run, tmp_path):
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (16, 16, 3), np.uint8)
    mask = np.zeros_like(pixels)
    mask[8:] = 255
    for name, values in (("begun", pixels), ("mask", mask)):
        (tmp_path / f"{name}.png").write_bytes(encode_png(values))
    flags = ["generate", f"--run_dir={run}", f"--prompt={CIRCLE}", f"--image={tmp_path}/begun.png"]
    painted = tmp_path / "painted.png"
    assert main([*flags, f"--mask={tmp_path}/mask.png", f"--output={painted}"]) == 0
    made = np.asarray(Image.open(painted)).astype(int)
    assert np.abs(made[:8] - pixels[:8]).max() <= 1
    assert np.abs(made[8:] - pixels[8:]).max() > 20
    assert main([*flags, "--strength=0.5", f"--output={tmp_path}/changed.png"]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "makes pictures; give --output"),
        (["--output=x.jpg"], "written as .png"),
        (["--output=x.png", "--top_k=5"], "--top_k is of models that write tokens"),
        (["--output=x.png", "--strength=0.5"], "says how far --image"),
        (["--output=x.png", "--negative_prompt=blue"], "give --guidance above 1"),
        (["--output=x.png", "--mask=x.png"], "give both"),
        (["--output=x.png", "--then={run}"], "whose pictures it does not read"),
        (["--output=x.png", "--image=x.png"], "leaves open what becomes of it: give --strength"),
        (["--output=x.png", "--audio=x.wav"], "--audio is not read"),
        (["--output=x.png", "--temperature=0"], "--temperature is of models that write tokens"),
        (["--output="], "written as .png"),
        (["--output={run}/config.gin/"], "config.gin is a file, not a folder"),
    ],
)
def test_what_does_not_go_together_is_told(run, flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = [flag.replace("{run}", str(run)) for flag in flags]
    assert main(["generate", f"--run_dir={run}", f"--prompt={CIRCLE}", *given]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_prompt_that_is_read_in_part_is_told(run, tmp_path, capsys):
    """Rows have 96 tokens: those of the begin and the end, and 94 bytes."""
    capsys.readouterr()
    flags = ["generate", f"--run_dir={run}", f"--output={tmp_path}/x.png"]
    assert main([*flags, f"--prompt={'a' * 94}"]) == 0
    assert capsys.readouterr().err == ""
    assert main([*flags, f"--prompt={'a' * 95}"]) == 0
    assert (
        "captions of 96 tokens (train.length), and not the end of 'aaa" in capsys.readouterr().err
    )


def test_a_prompt_of_no_text_is_refused(capsys):
    """As the shell hands over bytes that are not UTF-8."""
    with pytest.raises(SystemExit):
        main(["generate", "--run_dir=x", "--prompt=caf\udce9"])
    assert "has bytes that are not UTF-8" in capsys.readouterr().err


@pytest.mark.slow
def test_what_reads_no_prompts_is_given_none(tmp_path, monkeypatch, capsys):
    """Without a prompt it waits for none."""
    monkeypatch.setattr("sys.stdin", None)
    few = ["--gin.evaluation.evaluators=()", "--gin.train.length=1", *TINY[:3]]
    untold = ["--gin.diffusion.conditioner=None", "--gin.dit.context_dim=None",
              "--gin.run.mixture=@media_rows()", "--gin.media_rows.task=@task()",
              "--gin.media_rows.shape=(16, 16, 3)"]  # fmt: skip
    train("diffusion/sprites", tmp_path / "run", *few, *untold)
    flags = ["generate", f"--run_dir={tmp_path}/run", f"--output={tmp_path}/x.png"]
    flags.append("--sampler_steps=2")
    assert main(flags) == 0
    for flag in ("--prompt=red", "--guidance=2"):
        assert main([*flags, flag]) == 1
        assert f"{flag.partition('=')[0]} is of runs that read prompts" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cascade_goes_through_its_runs(tmp_path, capsys):
    """A base of 16 and an upsampler to 32, from a text tower that a contrastive run trained."""
    pair_run(tmp_path / "pairs")
    few = ["--gin.ENCODER='../pairs'", *UNET, *FEW]
    train("diffusion/imagen", tmp_path / "base", *few)
    after = [f"--gin.BASE='{tmp_path}/base'", "--gin.cascade_pictures.num_examples=8"]
    train("diffusion/imagen_upsampler", tmp_path / "upsampler", *few, *after)
    flags = ["generate", f"--run_dir={tmp_path}/base", f"--prompt={CIRCLE}"]
    then = f"--then={tmp_path}/upsampler"
    assert main([*flags, then, f"--output={tmp_path}/large.png", "--sampler_steps=2"]) == 0
    with Image.open(tmp_path / "large.png") as picture:
        assert picture.size == (32, 32)
    capsys.readouterr()
    flags[1] = f"--run_dir={tmp_path}/upsampler"
    assert main([*flags, f"--output={tmp_path}/alone.png"]) == 1
    assert "nothing before it makes any" in capsys.readouterr().err


def test_a_grid_is_filled_row_by_row():
    pictures = np.stack([np.full((2, 2, 3), value, np.uint8) for value in (10, 20, 30)])
    grid = grid_of(pictures, 2)
    assert grid.shape == (4 + GAP, 4 + GAP, 3)
    assert (grid[0, 0, 0], grid[0, -1, 0], grid[-1, 0, 0], grid[-1, -1, 0]) == (10, 20, 30, 255)
