"""A run that ends by accidents and is started again comes to the same bits.

Each case adds to one tiny run something that it keeps beside its parameters, or does at a step.
"""

from typing import Any

import jax
import pytest
from support.accidents import StopAfter
from support.outcomes import newest_digests, rows_without_times
from support.tiny_diffusion import tiny_run
from support.tiny_sweep import BINDINGS, base

from jaxgen.configuration import load
from jaxgen.runs.run import run
from jaxgen.sharding.mesh import MeshConfig
from jaxgen.training.execution import ExecutionConfig

STEPS, STOPS = 9, (3, 6)
SIZES = [f"train.steps={STEPS}", "train.batch_size=4"]
MOE = ["model.moe=@moe()", "moe.num_experts=4", "moe.experts_per_token=2", "moe.mlp_dim=8"]
CASES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "stages of the mixture": (
        [
            "mixture.stages=(@mixture_stage(),)",
            "mixture_stage.first_step=5",
            "mixture_stage.weights={'addition': 0.9, 'prose': 0.1}",
        ],
        {},
    ),
    "accumulation": (["model.dropout=0.1"], {"accumulation": 2}),
    "a batch that grows": (
        ["train.batch_ramp=@stepped_ramp()", "stepped_ramp.sizes=(2,)", "stepped_ramp.until=(5,)"],
        {},
    ),
    "an average of the parameters": (["train.ema_decay=0.9"], {}),
    "dropout": (["model.dropout=0.2", "model.attention_dropout=0.1"], {}),
    "biases of a router": ([*MOE, "moe.bias_balancing=True"], {}),
    "random experts of a router": ([*MOE, "moe.second_threshold=0.2"], {}),
    "Muon": (["train.optimizer=@muon()"], {}),
    "Adafactor": (["train.optimizer=@adafactor()"], {}),
    "a process for the data": ([], {"data_workers": 1}),
    "rows of several steps": ([], {"log_every": 3}),
    "a loss that may diverge": (["train.divergence=@divergence()"], {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_it_comes_to_the_same_bits(case, tmp_path):
    bindings, changes = CASES[case]
    config = base(*SIZES, *bindings)
    assert outcome(config, changes, tmp_path / "a", STOPS) == outcome(
        config, changes, tmp_path / "b"
    )


@pytest.mark.slow
def test_so_does_one_that_began_with_the_parameters_of_another(tmp_path):
    outcome(base(*SIZES), {}, tmp_path / "parent")
    config = base(*SIZES, f"run.initialize_from='{tmp_path / 'parent'}'", "train.seed=1")
    assert outcome(config, {}, tmp_path / "a", STOPS) == outcome(config, {}, tmp_path / "b")


@pytest.mark.slow
def test_so_does_one_with_moments_in_8_bits(tmp_path):
    files = ["runs/quickstart.gin", "optimizers/int8_state.gin"]
    config = load(files, [*BINDINGS, *SIZES])
    assert outcome(config, {}, tmp_path / "a", STOPS) == outcome(config, {}, tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sprites", "imagen"])
def test_so_does_one_of_diffusion_with_its_averages(name, tmp_path):
    config = tiny_run(name, f"train.steps={STEPS}", evaluates=True)
    assert outcome(config, {}, tmp_path / "a", STOPS) == outcome(config, {}, tmp_path / "b")


def outcome(config, changes, path, stops=()):
    """Returns rows, scores and the digests of the final state, after an accident at each stop."""
    settings = {"log_every": 1, "checkpoint_every": 2, "trackers": ()} | changes
    execution = ExecutionConfig(MeshConfig(data=1), **settings)
    devices = jax.devices()[:1]
    for stop in stops:
        with pytest.raises(RuntimeError, match="an accident"):
            run(config, path, execution, devices, False, more_trackers=[StopAfter(stop)])
    told = run(config, path, execution, devices, False)
    rows = rows_without_times(path)
    assert rows[-1]["step"] == told.directory.saved_steps()[-1] == STEPS
    return rows, told.record["evaluation"], newest_digests(path)
