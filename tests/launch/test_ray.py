"""A job of Ray's, on a cluster of this machine."""

import argparse
from pathlib import Path

import pytest
from support.tiny_sweep import BINDINGS

from jaxgen.launch.ray import drive
from jaxgen.runs.run_directory import RunDirectory


@pytest.mark.slow
def test_tasks_of_ray_train_one_run_together(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    bindings = [f"--gin.{one}" for one in (*BINDINGS, "train.batch_size=4")]
    run = tmp_path / "run"
    command = ["train", "--gin_file=runs/quickstart.gin", f"--run_dir={run}", *bindings]
    arguments = argparse.Namespace(
        command=command, processes=2, cpus_per_process=1, gpus_per_process=0, retries=0
    )
    options = {"num_cpus": 2, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        assert drive(arguments, **options) == 0
        record = RunDirectory(run).read_record()
        assert record["finished"] and record["mesh"]["data"] == 4
        # A command that fails is told by its status.
        arguments.command = ["runs", "--nonsense"]
        assert drive(arguments, **options) != 0
    finally:
        ray.shutdown()
