"""`jaxgen checkpoints`: what is kept and why, whether it is whole, what goes, and slim copies."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from diagnostics.test_cooldown import BASE
from support.helpers import one_device_mesh

from jaxgen.cli import main
from jaxgen.runs.checkpoints import flatten
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.training.execution import ExecutionConfig


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, steps=8))
    execution = ExecutionConfig(
        checkpoint_every=2, keep_checkpoints=2, keep_every=4, log_every=4, trackers=()
    )
    run(config, folder, execution, jax.devices()[:1], show_progress=False)
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def lines_of(capsys):
    return capsys.readouterr().out.splitlines()


def test_it_says_why_each_is_kept_and_which_is_damaged(copy, capsys):
    (copy / "checkpoints" / "damaged-2").mkdir()
    (copy / "checkpoints" / "6" / "record" / "metadata").write_text("{")
    assert main(["checkpoints", str(copy)]) == 0
    listed = lines_of(capsys)
    assert [line.split()[0] for line in listed] == ["step", "4", "6", "8", "damaged-2"]
    assert listed[1].endswith("one of every 4 steps") and listed[2].endswith("one of the newest")
    assert listed[3].endswith("one of the newest; one of every 4 steps")
    assert main(["checkpoints", str(copy), "--verify"]) == 1
    out = lines_of(capsys)
    assert out[1].endswith("whole") and out[3].endswith("whole")
    assert "DAMAGED: the checkpoint of step 6" in out[2]


def test_what_is_of_no_use_goes_and_nothing_else(copy, capsys):
    kept = copy / "checkpoints"
    for name in ("damaged-2", "rewound-6-2", "9.orbax-checkpoint-tmp-7"):
        (kept / name).mkdir()
    assert main(["checkpoints", str(copy), "--prune"]) == 0
    assert sorted(folder.name for folder in kept.iterdir()) == ["4", "6", "8"]
    assert main(["checkpoints", str(copy), "--prune", "--keep=1"]) == 0
    assert sorted(folder.name for folder in kept.iterdir()) == ["4", "8"]
    assert main(["checkpoints", str(copy), "--keep=1"]) == 1
    with RunDirectory(copy).lock():
        assert main(["checkpoints", str(copy), "--prune"]) == 1
    assert "another process" in capsys.readouterr().err


def test_a_slim_copy_is_the_model_and_nothing_trains_on_from_it(trained, tmp_path, capsys):
    slim = tmp_path / "slim"
    assert main(["checkpoints", str(trained), f"--slim={slim}"]) == 0
    mesh = one_device_mesh()
    with jax.set_mesh(mesh):
        models = [flatten(restore(folder, mesh).model) for folder in (trained, slim)]
    for name, array in models[0].items():
        np.testing.assert_array_equal(array, models[1][name])

    def size(folder):
        files = (folder / "checkpoints" / "8" / "state").rglob("d/*")
        return sum(file.stat().st_size for file in files)

    assert size(slim) < 0.5 * size(trained)
    assert main(["checkpoints", str(slim), "--verify"]) == 0
    assert main(["checkpoints", str(trained), f"--slim={slim}"]) == 1
    assert "is not empty" in capsys.readouterr().err
