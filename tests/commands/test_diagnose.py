"""`jaxgen diagnose`, as a person gives it."""

import json

import numpy as np
import pytest

from jaxgen.cli import main
from jaxgen.configuration import load, to_gin
from jaxgen.diagnostics import coordinates
from jaxgen.diagnostics.coordinates import Coordinates
from jaxgen.files import append_rows
from jaxgen.runs.run_directory import RunDirectory

TINY = [
    "--gin_file=runs/quickstart.gin", "--gin.model.num_layers=1", "--gin.model.embed_dim=8",
    "--gin.model.num_heads=1", "--gin.model.mlp_dim=8", "--gin.train.batch_size=2",
    "--gin.train.length=64",
]  # fmt: skip


@pytest.mark.slow
def test_coordinates_of_a_configuration_are_measured(capsys):
    check = ["diagnose", "coordinates", *TINY, "--widths", "8", "16", "--steps=1", "--seeds=1"]
    assert main([*check, "--threshold=9"]) == 0
    page = capsys.readouterr().out
    assert "width 16" in page and "logits" in page and "0 of" in page


def test_coordinates_fail_where_modules_grow(capsys, monkeypatch):
    means = np.ones((2, 1, 2, 3))
    means[1, 0, 1] = [1, 2, 4]  # From width 8 to 16, after a step.
    measured = Coordinates((8, 16), ("flat", "grows", "norm.-1"), means)
    monkeypatch.setattr(coordinates, "check_coordinates", lambda *arguments: measured)
    check = ["diagnose", "coordinates", *TINY, "--steps=1"]
    assert main([*check, "--widths", "8", "16"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.count("flagged") for line in lines if "│ flat" in line or "│ grows" in line] == [
        0, 1,
    ]  # fmt: skip
    # Over depth the last blocks are compared.
    assert main([*check, "--depths", "1", "2", "--threshold=2.5"]) == 0
    assert "+2.000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["coordinates", "--widths", "8", "16"], "no configuration given"),
        (["coordinates", *TINY, "--widths", "8"], "two sizes or more"),
        (["coordinates", *TINY, "--widths", "8", "12"], "model.num_heads=1 of the width 8"),
        (["noise_scale", "/nowhere/at/all"], "not a run directory"),
        (["critical_batch", "/nowhere/at/all"], "is not a folder"),
    ],
)
def test_mistakes_are_one_message(flags, words, capsys):
    assert main(["diagnose", *flags]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and words in message


def write_run(folder, name, batch, steps, rows, rate=1e-3):
    config = load(
        ["runs/quickstart.gin"],
        [
            f"run.name='{name}'",
            f"train.batch_size={batch}",
            f"train.steps={steps}",
            f"warmup_cosine.peak={rate}",
        ],
    )
    directory = RunDirectory(folder / name)
    directory.path.mkdir()
    directory.config_file.write_text(to_gin(config))
    record = {
        "finished": True, "name": name, "fingerprint": "0", "seed": 0, "steps": steps,
        "tokens": 256 * batch * steps, "flops": batch * steps, "flops_per_token": 1 / 256,
        "parameters": {"total": 1, "embedding": 0, "active": 1}, "evaluation": {},
        "started": "2026-11-28T00:00:00+00:00", "versions": {}, "git_revision": None,
    }  # fmt: skip
    directory.run_file.write_text(json.dumps(record))
    append_rows(directory.metrics_file, rows)


def write_batches(folder, batches, rates):
    """Losses fall as 4 - step / (2 S), so that 3.5 is reached after S = 20 + 600 / batch steps."""
    for batch in batches:
        for (name, slowness), rate in zip(SLOWNESS.items(), rates, strict=True):
            needed = slowness * (20 + 600 / batch)
            rows = [{"step": s, "loss": 4 - s / needed / 2} for s in range(10, 400, 10)]
            write_run(folder, f"b{batch}-{name}", batch, 400, rows, rate)


SLOWNESS = {"low": 2, "good": 1, "high": 3}


def test_the_critical_batch_of_a_study_is_found(tmp_path, capsys):
    write_batches(tmp_path, (4, 16, 64), (1e-3, 2e-3, 4e-3))
    assert main(["diagnose", "critical_batch", str(tmp_path), "--loss=3.5"]) == 0
    page = capsys.readouterr().out
    assert "critical batch: 30 rows of 256 tokens; least steps 20, least examples 600" in page
    assert "b16-good" in page and "low" not in page and "high" not in page
    assert "largest error of the fitted steps: 0%" in page


def test_a_critical_batch_that_was_not_measured_is_no_success(tmp_path, capsys):
    write_batches(tmp_path, (2, 4, 8), (1e-3, 4e-3, 2e-3))
    assert main(["diagnose", "critical_batch", str(tmp_path), "--loss=3.5"]) == 1
    page = capsys.readouterr().out
    assert "highest tried at batches of [2, 4, 8]" in page and "an extrapolation" in page


def test_the_noise_scale_is_printed_beside_the_batch(tmp_path, capsys):
    noise = {"noise_scale/variance": 32.0, "noise_scale/squared_gradient": 1.0}
    write_run(tmp_path, "noisy", 16, 20, [{"step": 10, **noise}, {"step": 20, **noise}])
    assert main(["diagnose", "noise_scale", str(tmp_path / "noisy"), "--parts=1"]) == 0
    page = capsys.readouterr().out
    # 1 + 32 / 16 times the least steps, 1 + 16 / 32 times the least examples.
    (line,) = [line for line in page.splitlines() if "1 to 20" in line]
    assert [cell.strip() for cell in line.strip("│ ").split("│")][1:] == ["16", "32", "3", "1.5"]
