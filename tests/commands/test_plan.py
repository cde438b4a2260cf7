"""`jaxgen plan`, as a person gives it, for the 8 CPU devices of the tests."""

import importlib.util
import json
import re

import pytest

from jaxgen.cli import main
from jaxgen.configuration import load_run, to_gin

RUN = [
    "--gin_file=runs/quickstart.gin", "--gin.model.num_layers=3", "--gin.train.batch_size=16",
    "--gin.train.length=64", "--gin.train.steps=10", "--gin.execution.scan_unroll=1",
]  # fmt: skip
MESH = ["--gin.mesh.data=2", "--gin.mesh.fsdp=2", "--gin.mesh.tensor=2"]
COST = ["--price_per_chip_hour=2.5", "--watts_per_chip=200", "--pue=1.1"]


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    path = tmp_path_factory.mktemp("plans") / "plan.json"
    assert main(["plan", "--topology=cpu:8", f"--json={path}", *RUN, *MESH, *COST]) == 0
    return json.loads(path.read_text())


def test_a_plan_as_json(planned):
    assert planned["topology"] == "cpu:8" and planned["fits"]
    assert planned["mesh"] == {
        "data": 2, "fsdp": 2, "expert": 1, "sequence": 1, "tensor": 2, "stage": 1,
    }  # fmt: skip
    assert planned["tokens_per_step"] == 16 * 64
    memory = planned["memory"]
    # Two moments of each parameter, and two counters.
    assert memory["optimizer_state"] - 2 * memory["parameters"] == 8
    assert memory["needed"] >= memory["parameters"] + memory["optimizer_state"]
    # Rows of 7 fields of 4 bytes, split over data and fsdp.
    assert memory["batch"] == 7 * 4 * 16 * 64 / 4
    assert (planned["speed"], planned["expense"]) == (None, None)
    assert memory["largest"][0]["bytes"] > 0 and memory["activations"] < memory["temporaries"]


def test_operations_and_collectives_of_a_plan(planned):
    share = planned["work"]["flops"] / planned["model_flops"]
    # Causal attention leaves out some of the closed form's products.
    assert 0.85 < share < 1
    found = {(one["kind"], *one["axes"]): one for one in planned["work"]["collectives"]}
    # A device gathers its half of the matrices of each of 3 layers, and the token table.
    assert (
        found["all-gather", "fsdp"]["bytes"] >= 4 * (3 * (4 * 64**2 + 3 * 64 * 192) + 320 * 64) / 2
    )
    assert found["all-gather", "fsdp"]["devices"] == 2
    assert ("all-reduce", "tensor") in found


@pytest.mark.slow
def test_a_run_directory_is_planned_for(tmp_path, capsys):
    config, _ = load_run(["runs/quickstart.gin"], ["model.num_layers=1", "train.length=32"])
    (tmp_path / "config.gin").write_text(to_gin(config))
    command = ["plan", str(tmp_path), "--topology=cpu:8", "--gin.mesh.data=4"]
    assert main(command) == 1
    assert "the mesh data=4 covers 4 device(s) but 8 are here" in capsys.readouterr().err
    assert main([*command, "--gin.mesh.fsdp=2"]) == 0
    assert "mesh data=4 x fsdp=2" in capsys.readouterr().out


def test_a_step_of_decoding_does_a_third_of_a_training_token(tmp_path):
    path = tmp_path / "plan.json"
    decode = ["plan", "--topology=cpu:8", "--decode", f"--json={path}", *RUN]
    assert main([*decode, "--gin.mesh.data=2", "--gin.mesh.tensor=4"]) == 0
    made = json.loads(path.read_text())
    assert (made["step"], made["tokens_per_step"]) == ("decode", 16)
    assert made["work"]["flops"] == made["model_flops"]
    # Keys and values of 8 sequences and a head on each device, and which slots are filled.
    cache = 3 * 2 * 8 * 1 * 64 * 16 * 4 + 8 * 64 * (1 + 4)
    assert made["memory"]["cache"] == cache


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v9:2x2", *RUN], "known are v4, v5e, v5p, v6e, 7x, cpu"),
        (["--topology=cpu:8", *RUN, "--gin.mesh.data=3"], "covers 3 device(s) but 8 are here"),
        (["--topology=cpu:8"], "--gin_file=FILE"),
        (["nowhere", "--topology=cpu:8"], "nowhere is not a run directory"),
        (["--topology=cpu:8", *RUN, "--pue=1.1"], "give that too"),
        (["--topology=cpu:8", *RUN, "--search", "--decode"], "leave out --decode"),
        (["--topology=cpu:8", *RUN, "--gin.train.batch_size=12"], "not divided by the mesh axes"),
    ],
)
def test_mistakes_are_answered_with_what_would_do(arguments, message, capsys):
    assert main(["plan", *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--price_per_chip_hour=cheap", "--watts_per_chip=-1", "--pue=0"])
def test_prices_are_numbers(flag, capsys):
    with pytest.raises(SystemExit):
        main(["plan", "--topology=cpu:8", *RUN, flag])
    assert re.search(r"invalid float|must be above 0", capsys.readouterr().err)


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed here"
)
def test_the_compiler_for_tpu_is_asked_for(capsys):
    assert main(["plan", "--topology=v5e:2x4", *RUN]) == 1
    assert "pip install 'jaxgen[plan]'" in capsys.readouterr().err
