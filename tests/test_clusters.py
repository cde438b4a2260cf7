"""The variables of each kind of cluster, as their own manuals and jax.distributed state them."""

import os
from unittest import mock

import pytest
from jax._src import clusters as of_jax

from jaxgen.clusters import first_node, process_group
from jaxgen.errors import ConfigError

PLAIN = {
    "JAX_COORDINATOR_ADDRESS": "10.0.0.1:5000", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3",
}  # fmt: skip
SLURM = {
    "SLURM_JOB_ID": "70001", "SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "8", "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "gpu[007-010,12],login",
}  # fmt: skip
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}  # fmt: skip
TPU = {"TPU_WORKER_HOSTNAMES": "t-0,t-1,t-2,t-3", "TPU_WORKER_ID": "2"}
SLICES = TPU | {
    "MEGASCALE_COORDINATOR_ADDRESS": "s-0:8080", "MEGASCALE_NUM_SLICES": "2",
    "MEGASCALE_SLICE_ID": "1",
}  # fmt: skip
JOB_SET = {
    "JAX_COORDINATOR_ADDRESS": "run-0.run:61440", "JAX_NUM_PROCESSES": "4",
    "JOB_COMPLETION_INDEX": "2",
}  # fmt: skip


@pytest.mark.parametrize(
    "environ, expected",
    [
        (PLAIN, (4, 3, "10.0.0.1:5000")),
        (JOB_SET, (4, 2, "run-0.run:61440")),
        (TPU, (4, 2, "t-0:8482")),
        (SLICES, (8, 6, "s-0:8482")),
        (SLURM | {"JAX_COORDINATOR_ADDRESS": "h:1"}, (8, 5, "h:1")),
        (OPEN_MPI | {"JAX_COORDINATOR_ADDRESS": "h:1"}, (2, 1, "h:1")),
    ],
)
def test_each_kind_is_read(environ, expected):
    group = process_group(environ)
    assert group is not None and (group.count, group.index, group.coordinator) == expected


@pytest.mark.parametrize(
    "environ, method",
    [
        (SLURM, of_jax.SlurmCluster),
        (OPEN_MPI, of_jax.OmpiCluster),
        (
            OPEN_MPI
            | {"OMPI_MCA_orte_hnp_uri": "1314521088.0;tcp6://[fe80::b9b:ac5d,2620:10d::2]:43370"},
            of_jax.OmpiCluster,
        ),
    ],
)
def test_jax_finds_the_same(environ, method):
    with mock.patch.dict(os.environ, environ, clear=True):
        assert method.is_env_present()
        host, port = method.get_coordinator_address(1, None).rsplit(":", 1)
        expected = (method.get_process_count(), method.get_process_id(), host, port)
    group = process_group(environ)
    assert group is not None
    found = group.coordinator.rsplit(":", 1)
    assert (group.count, group.index, found[0].strip("[]"), found[1]) == expected


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"},  # A batch script.
        SLURM | {"SLURM_STEP_NUM_TASKS": "1"},
        {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        {"TPU_WORKER_HOSTNAMES": "localhost"},
        PLAIN | {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"},
        {"JOB_COMPLETION_INDEX": "3"},  # Of any indexed job of Kubernetes.
    ],
)
def test_a_process_alone_is_left_alone(environ):
    assert process_group(environ) is None


@pytest.mark.parametrize("whole", [PLAIN, JOB_SET, TPU, SLICES, SLURM, OPEN_MPI])
def test_half_an_environment_names_what_is_missing(whole):
    marks = {
        "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS", "SLURM_LOCALID",
        "OMPI_COMM_WORLD_LOCAL_RANK", "JOB_COMPLETION_INDEX", "MEGASCALE_COORDINATOR_ADDRESS",
    }  # fmt: skip
    tried = 0
    for name in whole.keys() - marks:
        if whole is TPU and name == "TPU_WORKER_HOSTNAMES":
            continue
        left = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(ConfigError, match=name):
            process_group(left)
        tried += 1
    assert tried


@pytest.mark.parametrize(
    "change, named",
    [
        ({"JAX_PROCESS_ID": "4"}, "0 to 3"),
        ({"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID"),
        ({"JAX_NUM_PROCESSES": "four"}, "'four'"),
        ({"JAX_COORDINATOR_ADDRESS": "10.0.0.1"}, "HOST:PORT"),
    ],
)
def test_numbers_that_make_no_sense(change, named):
    with pytest.raises(ConfigError, match=named):
        process_group(PLAIN | change)


@pytest.mark.parametrize(
    "nodes, first",
    [
        ("node1", "node1"),
        ("node1,host2", "node1"),
        ("node[001-0015],host2", "node001"),
        ("node[7,9-15]", "node7"),
        ("a-b-[3-4]", "a-b-3"),
    ],
)
def test_the_first_node_of_a_list(nodes, first):
    assert first_node(nodes) == first
