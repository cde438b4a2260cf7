"""Sweeps on a real Ray cluster of two nodes, one of which is killed in the middle."""

import pytest
from support.tiny_sweep import done, steps_logged, write_file

from jaxgen.sweeps import load_sweep
from jaxgen.sweeps.leases import read_attempts
from jaxgen.sweeps.scheduler import run_all

STEPS = [2, 4]


def sweep_with_a_death(tmp_path, monkeypatch, name: str, runs: int, cores: int, dies_after: int):
    """A head and a node that is killed when so many runs are finished and it is at work."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    from jaxgen.sweeps.ray_engine import RayEngine

    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    file, folder = write_file(tmp_path, name, runs), tmp_path / "runs"
    sweep = load_sweep(file)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cores})
    node = cluster.add_node(num_cpus=cores)
    killed = []

    def at_work() -> int:
        found = [read_attempts(directory) for directory in sweep.directories(folder)]
        return sum(bool(records) and records[-1].outcome is None for records in found)

    class Killing(RayEngine):
        """Kills the node at its time."""

        def has_ended(self, handle):
            if not killed and len(done(file)) >= dies_after and at_work() == 2 * cores:
                killed.append(True)
                cluster.remove_node(node, allow_graceful=False)
            return super().has_ended(handle)

    try:
        engine = Killing(sweep, file, folder, cluster.address)
        statuses = run_all(sweep, folder, engine)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert killed
    assert [status.state for status in statuses] == ["finished"] * runs
    assert done(file) == sorted(config.name for config in sweep.runs)
    histories = [read_attempts(directory) for directory in sweep.directories(folder)]
    assert [steps_logged(d) for d in sweep.directories(folder)] == [STEPS] * runs
    outcomes = [[attempt.outcome for attempt in attempts] for attempts in histories]
    assert all(found.count("finished") == 1 and "failed" not in found for found in outcomes)
    return outcomes


@pytest.mark.slow
def test_a_node_dies_and_each_run_is_done_once(tmp_path, monkeypatch):
    sweep_with_a_death(tmp_path, monkeypatch, "ray_sweep", runs=2, cores=1, dies_after=0)


@pytest.mark.slow
def test_a_node_dies_among_24_runs_and_each_is_done_once(tmp_path, monkeypatch):
    sweep_with_a_death(tmp_path, monkeypatch, "large_ray_sweep", runs=24, cores=1, dies_after=8)
