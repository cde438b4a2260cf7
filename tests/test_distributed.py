"""Several processes: real ones on this machine, which find one another as those of a pod do."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.processes import BEGINNING, ROOT, together
from support.tiny_sweep import BINDINGS, steps_logged

from jaxgen.configuration import load
from jaxgen.errors import RESTART_STATUS
from jaxgen.launch.local import free_port, run_processes
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.sharding.mesh import MeshConfig
from jaxgen.training.execution import ExecutionConfig

EXECUTIONS = {
    "data": ExecutionConfig(MeshConfig(data=4, fsdp=2), log_every=1),
    "tensor": ExecutionConfig(MeshConfig(data=1, tensor=8), log_every=1),
    "sequence": ExecutionConfig(MeshConfig(data=1, fsdp=2, sequence=4), log_every=1),
    "ring": ExecutionConfig(MeshConfig(data=1, sequence=8), attention="ring", log_every=1),
    "stage": ExecutionConfig(MeshConfig(data=1, fsdp=2, tensor=2, stage=2), log_every=1),
    "expert": ExecutionConfig(MeshConfig(data=2, expert=4), log_every=1),
    "microbatches": ExecutionConfig(
        MeshConfig(data=2, fsdp=2, tensor=2), accumulation=2, log_every=1
    ),
}

BATCHES = """
import jax
import numpy as np
from support.helpers import MESHES, random_batch
from jaxgen import distributed
from jaxgen.errors import DataError
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import process_rows, put_batch

found = {"processes": distributed.process_count(), "devices": jax.device_count()}
differ, whole = [], random_batch(batch_size=16)
for name in NAMES:
    for accumulation in (1, 2):
        mesh, rules = make_mesh(MESHES[name]), Rules()
        rows = process_rows(mesh, rules, 16 // accumulation)
        own = jax.tree.map(lambda x: x[rows(16)], whole)
        for batch, of in ((own, rows), (whole, None)):
            back = distributed.fetch(put_batch(batch, mesh, rules, accumulation, of))
            same = jax.tree.map(lambda x, y: np.array_equal(x.reshape(y.shape), y), back, whole)
            if not all(jax.tree.leaves(same)):
                differ.append([name, accumulation, of is None])
found["differ"] = differ

found["told"] = distributed.on_main(lambda: {"index": distributed.process_index()})
def fail():
    raise DataError("no such shard")
try:
    distributed.on_main(fail)
except DataError as error:
    message = str(error)
assert message == "no such shard"
"""
RUNS = """
from jaxgen.runs.run import run
from test_distributed import EXECUTIONS, tiny_run
for name in NAMES:
    run(tiny_run(name), f"{FOLDER}/{name}", EXECUTIONS[name], show_progress=False)
found = None
"""


def tiny_run(name: str):
    """Returns a run of three steps, of a model that the mesh of an execution divides."""
    sizes = ["model.num_layers=2", "model.embed_dim=16", "model.num_heads=8", "model.mlp_dim=16"]
    batches = ["train.steps=3", "train.batch_size=8", "evaluation.batch_size=8"]
    run = load(["runs/quickstart.gin"], [*BINDINGS, *sizes, *batches])
    if name != "expert":
        return run
    moe = MoEConfig(num_experts=4, experts_per_token=2, mlp_dim=16)
    return dataclasses.replace(run, model=dataclasses.replace(run.model, moe=moe))


def trained_alone(folder: Path, name: str) -> RunDirectory:
    """Trains the run in this process, with all its devices."""
    alone = folder / f"{name}_alone"
    return run(tiny_run(name), alone, EXECUTIONS[name], show_progress=False).directory


def check_equal(together: RunDirectory, alone: RunDirectory) -> None:
    """Checks that two runs saw the same rows, and had the same losses but for the last bits."""
    for ours, theirs in zip(
        read_metrics(together.metrics_file), read_metrics(alone.metrics_file), strict=True
    ):
        for name, value in theirs.items():
            if name.startswith("loss") or name == "gradient_norm":
                assert ours[name] == pytest.approx(value, rel=1e-6), (name, ours["step"])
            if "tokens" in name and "second" not in name:
                assert ours[name] == value
    ours, theirs = (
        [json.loads(line) for file in one.evaluations.iterdir() for line in file.open()]
        for one in (together, alone)
    )
    assert [row["instance"] for row in ours] == [row["instance"] for row in theirs]
    for row, other in zip(ours, theirs, strict=True):
        assert row["log_probability"] == pytest.approx(other["log_probability"], rel=1e-5)


def test_two_processes_do_what_one_does(tmp_path):
    script = f"FOLDER, NAMES = {str(tmp_path)!r}, ['data']\n" + RUNS
    together(tmp_path, script, 2, 4)
    check_equal(RunDirectory(tmp_path / "data"), trained_alone(tmp_path, "data"))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4, 8])
def test_each_process_has_its_rows_and_hears_of_the_main_one(tmp_path, processes):
    script = "NAMES = ['data', 'tensor', 'mixed', 'sequence']\n" + BATCHES
    found = together(tmp_path, script, processes, 8 // processes)
    told = {"index": 0}
    assert found == {"processes": processes, "devices": 8, "differ": [], "told": told}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_every_axis_may_cross_processes(tmp_path, processes):
    script = f"FOLDER, NAMES = {str(tmp_path)!r}, {list(EXECUTIONS)}\n" + RUNS
    together(tmp_path, script, processes, 8 // processes)
    for name in EXECUTIONS:
        check_equal(RunDirectory(tmp_path / name), trained_alone(tmp_path, name))


@pytest.mark.slow
def test_a_process_that_has_joined_the_others_still_ends_by_sigterm(tmp_path):
    """JAX's preemption service would take the signal, and nobody hears of it before the loop."""
    script = tmp_path / "script.py"
    waits = "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(600)\n"
    script.write_text(BEGINNING.format(root=str(ROOT), tests=str(ROOT / "tests")) + waits)
    assert run_processes([sys.executable, str(script)], 2, 1) == 128 + signal.SIGTERM


LATE = """
import time
import jax
import jax.numpy as jnp
import numpy as np
from jaxgen import distributed
from jaxgen.sharding.mesh import MeshConfig, make_mesh
mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
time.sleep(35 if distributed.is_main() else 0)
with jax.set_mesh(mesh):
    sharding = jax.NamedSharding(mesh, jax.P(("data", "fsdp"), "tensor"))
    ones = jax.make_array_from_callback((8, 4), sharding, lambda index: np.ones((2, 2)))
    found = float(jax.jit(jnp.sum)(ones))
"""


@pytest.mark.slow
def test_a_process_may_be_later_than_gloo_waits_for(tmp_path):
    """It compiles, for example, what the others had in their cache."""
    assert together(tmp_path, LATE, 2, 4) == 32.0


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 1])
def test_one_that_is_asked_to_stop_stops_all_at_one_step(tmp_path, asked):
    """Started by hand, as on plain hosts; then the run goes on in one process, to the same end."""
    bindings = [f"--gin.{one}" for one in (*BINDINGS, "train.steps=400", "train.batch_size=8")]
    bindings += ["--gin.evaluation.batch_size=8", "--gin.execution.log_every=1"]
    train = ["train", "--gin_file=runs/quickstart.gin", f"--run_dir={tmp_path / 'run'}", *bindings]
    command = [sys.executable, "-m", "jaxgen", *train]
    environment = os.environ | {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_NUM_CPU_DEVICES": "4",
        "PYTHONPATH": str(ROOT),
    }
    children = [
        subprocess.Popen(
            command,
            env=environment | {"JAX_PROCESS_ID": str(index)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    directory = RunDirectory(tmp_path / "run")
    while len(steps_logged(directory)) < 3:
        assert all(child.poll() is None for child in children)
        time.sleep(0.2)
    children[asked].send_signal(signal.SIGTERM)
    told = [child.communicate()[1] for child in children]
    assert [child.returncode for child in children] == [RESTART_STATUS] * 2
    last = steps_logged(directory)[-1]
    assert f"stopped at step {last} of 400 by SIGTERM" in told[0]
    assert "stopped" not in told[1]  # One of them says it.
    assert directory.saved_steps()[-1] == last
