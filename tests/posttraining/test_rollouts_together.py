"""Groups that several processes sample together are those that one process samples."""

import numpy as np
import pytest
from support.accidents import StopAfter
from support.processes import together
from support.rollouts import ANCHORED, rewarded

from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.sharding.mesh import MeshConfig
from jaxgen.training.execution import ExecutionConfig

VALUED = [
    "run.model=@policy()", "policy.model=@model()", "policy.reference=True", "policy.head=True",
    "rollouts.advantage=@generalised_advantage()", "policy_gradient.value_weight=0.5",
]  # fmt: skip
MESHES = {"data": MeshConfig(data=4, fsdp=2), "tensor": MeshConfig(data=2, fsdp=2, tensor=2)}
TOGETHER = """
from jaxgen.runs.run import run
from posttraining.test_rollouts_together import execution, tiny_run
run(tiny_run(KIND), f"{FOLDER}/together", execution(MESH), show_progress=False)
found = None
"""
STOPPED = """
from posttraining.test_rollouts_together import run_until_an_accident
run_until_an_accident(f"{FOLDER}/stopped")
found = None
"""


def tiny_run(kind: str):
    """Returns a run whose rollouts of two updates have what a reference or a head says beside."""
    shared = ["rollouts.max_age=1", "rollouts.group=4", "train.batch_size=8"]
    penalty = "rollouts.kl_penalty=0.1"
    return rewarded(*shared, penalty, *(VALUED if kind == "ppo" else ANCHORED))


def execution(mesh: str) -> ExecutionConfig:
    return ExecutionConfig(MESHES[mesh], log_every=1, checkpoint_every=1)


def run_until_an_accident(folder: str) -> None:
    """Runs two of the four updates: the second of these is made of rollouts of the first."""
    accident = [StopAfter(2)]
    with pytest.raises(RuntimeError, match="an accident"):
        run(tiny_run("grpo"), folder, execution("data"), None, False, more_trackers=accident)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "mesh"), [("grpo", "data"), ("ppo", "tensor")])
def test_two_processes_sample_and_reward_as_one_does(kind, mesh, tmp_path):
    alone = run(tiny_run(kind), tmp_path / "alone", execution(mesh), show_progress=False).directory
    names = {"KIND": kind, "MESH": mesh, "FOLDER": str(tmp_path)}
    settings = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    together(tmp_path, settings + TOGETHER, 2, 4)
    ours, theirs = (
        read_metrics(one.metrics_file) for one in (alone, RunDirectory(tmp_path / "together"))
    )
    assert len(ours) == len(theirs) == 4
    for one, other in zip(ours, theirs, strict=True):
        for name in ("reward", "completion_tokens", "groups_with_signal", "tokens", "rollout_age"):
            assert one[name] == other[name], (name, one["step"])
        for name in ("loss", "gradient_norm", "kl", "entropy", "sampler_gap", "value_loss"):
            if name in one:
                np.testing.assert_allclose(other[name], one[name], rtol=1e-5, atol=1e-6)
    assert max(row["completion_tokens"] for row in ours) > 1
    assert max(row["gradient_norm"] for row in ours) > 0


@pytest.mark.slow
def test_what_two_processes_began_one_ends(tmp_path):
    config, settings = tiny_run("grpo"), execution("data")
    whole = run(config, tmp_path / "whole", settings, show_progress=False).directory
    together(tmp_path, f"FOLDER = {str(tmp_path)!r}\n" + STOPPED, 2, 4)
    stopped = RunDirectory(tmp_path / "stopped")
    assert max(stopped.saved_steps()) in (1, 2)
    run(config, stopped.path, settings, show_progress=False)
    ours, theirs = (read_metrics(one.metrics_file) for one in (whole, stopped))
    assert [row["step"] for row in theirs] == [1, 2, 3, 4]
    for one, other in zip(ours, theirs, strict=True):
        assert one["reward"] == other["reward"], one["step"]
        assert one["rollout_age"] == other["rollout_age"]
        np.testing.assert_allclose(other["loss"], one["loss"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(other["gradient_norm"], one["gradient_norm"], rtol=1e-5)
