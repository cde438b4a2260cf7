"""Groups that several processes sample together are those that one process samples."""

import numpy as np
import pytest
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


def tiny_run(kind: str):
    """Returns a run whose rollouts of two updates have what a reference or a head says beside."""
    shared = ["rollouts.max_age=1", "rollouts.group=4", "train.batch_size=8"]
    penalty = "rollouts.kl_penalty=0.1"
    return rewarded(*shared, penalty, *(VALUED if kind == "ppo" else ANCHORED))


def execution(mesh: str) -> ExecutionConfig:
    return ExecutionConfig(MESHES[mesh], log_every=1)


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
