"""Where a process learns that it is one of several: the variables of each kind of cluster.

A table and nothing else: no socket is opened and JAX is not asked.

| kind | number of processes | this one | where the first one listens |
|---|---|---|---|
| plain hosts | JAX_NUM_PROCESSES | JAX_PROCESS_ID | JAX_COORDINATOR_ADDRESS |
| GKE JobSet | JAX_NUM_PROCESSES | JOB_COMPLETION_INDEX | JAX_COORDINATOR_ADDRESS |
| TPU pod | names in TPU_WORKER_HOSTNAMES | TPU_WORKER_ID | the first of the names |
| TPU slices | x MEGASCALE_NUM_SLICES | and MEGASCALE_SLICE_ID | MEGASCALE_COORDINATOR_ADDRESS |
| Slurm step | SLURM_STEP_NUM_TASKS | SLURM_PROCID | the first node of SLURM_STEP_NODELIST |
| Open MPI | OMPI_COMM_WORLD_SIZE | OMPI_COMM_WORLD_RANK | OMPI_MCA_orte_hnp_uri |

JAX_COORDINATOR_ADDRESS, where it is set, replaces the last column for Slurm and Open MPI.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from jaxgen.errors import ConfigError

ADDRESS = "JAX_COORDINATOR_ADDRESS"
TPU_PORT = 8482
"""Of the coordinator on TPU hosts, as in jax.distributed."""


@dataclasses.dataclass(frozen=True)
class ProcessGroup:
    """The processes that one program runs in.

    Attributes:
      kind: of the cluster, for messages.
      count: how many there are.
      index: of this one; 0 is the main process.
      coordinator: HOST:PORT that the main process listens on.
      variable: where `coordinator` comes from, for messages.
    """

    kind: str
    count: int
    index: int
    coordinator: str
    variable: str


def process_group(environ: Mapping[str, str]) -> ProcessGroup | None:
    """Returns the group that an environment describes; None if the process is alone.

    Raises:
      ConfigError: if an environment is described by half, or its numbers make no sense.
    """
    for read in (_tpu, _slurm, _open_mpi, _plain):
        group = read(environ)
        if group is not None:
            if not 0 <= group.index < group.count:
                raise ConfigError(
                    f"{group.kind}: this is process {group.index} of {group.count}; numbers go "
                    f"from 0 to {group.count - 1}."
                )
            return group if group.count > 1 else None
    return None


def _plain(environ: Mapping[str, str]) -> ProcessGroup | None:
    own = (ADDRESS, "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    if not any(name in environ for name in own):
        return None
    in_job = "JAX_PROCESS_ID" not in environ and "JOB_COMPLETION_INDEX" in environ
    kind = "GKE JobSet" if in_job else "plain hosts"
    index = "JOB_COMPLETION_INDEX" if in_job else "JAX_PROCESS_ID"
    _check_whole(kind, environ, (ADDRESS, "JAX_NUM_PROCESSES", index))
    count = _number(environ, "JAX_NUM_PROCESSES")
    return ProcessGroup(kind, count, _number(environ, index), *_given_address(environ))


def _tpu(environ: Mapping[str, str]) -> ProcessGroup | None:
    names = environ.get("TPU_WORKER_HOSTNAMES", "")
    slices = "MEGASCALE_COORDINATOR_ADDRESS"
    if not names and slices not in environ:
        return None
    hosts = names.split(",")
    if len(hosts) == 1 and slices not in environ:
        return None
    _check_whole("TPU pod", environ, ("TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID"))
    index, num_slices, first, variable = (
        _number(environ, "TPU_WORKER_ID"), 1, hosts[0], "TPU_WORKER_HOSTNAMES",
    )  # fmt: skip
    if slices in environ:
        _check_whole("TPU slices", environ, ("MEGASCALE_NUM_SLICES", "MEGASCALE_SLICE_ID"))
        num_slices = _number(environ, "MEGASCALE_NUM_SLICES")
        index += len(hosts) * _number(environ, "MEGASCALE_SLICE_ID")
        first, variable = environ[slices].split(":")[0], slices
    coordinator = f"{first}:{TPU_PORT}"
    return ProcessGroup("TPU pod", len(hosts) * num_slices, index, coordinator, variable)


def _slurm(environ: Mapping[str, str]) -> ProcessGroup | None:
    # A batch script is itself no task of a step: only what `srun` starts has this variable.
    if "SLURM_STEP_NUM_TASKS" not in environ:
        return None
    count = _number(environ, "SLURM_STEP_NUM_TASKS")
    if count == 1:
        return None
    needed = ("SLURM_PROCID", "SLURM_JOB_ID", *(() if ADDRESS in environ else (NODES,)))
    _check_whole("Slurm step", environ, needed)
    index = _number(environ, "SLURM_PROCID")
    if ADDRESS in environ:
        return ProcessGroup("Slurm step", count, index, *_given_address(environ))
    # Jobs that share a node must not share a port.
    port = 61_440 + _number(environ, "SLURM_JOB_ID") % 4096
    return ProcessGroup("Slurm step", count, index, f"{first_node(environ[NODES])}:{port}", NODES)


NODES = "SLURM_STEP_NODELIST"


def first_node(nodes: str) -> str:
    """Returns the first name of a list of Slurm's, such as node1 of `node[1-3,7],login`."""
    found = re.match(r"([^,\[]+)(?:\[([^,\-\]]+))?", nodes)
    if found is None:
        raise ConfigError(f"{NODES}={nodes!r} names no node.")
    return found[1] + (found[2] or "")


def _open_mpi(environ: Mapping[str, str]) -> ProcessGroup | None:
    if "OMPI_COMM_WORLD_SIZE" not in environ:
        return None
    count = _number(environ, "OMPI_COMM_WORLD_SIZE")
    if count == 1:
        return None
    kind, uri = "Open MPI", "OMPI_MCA_orte_hnp_uri"
    _check_whole(kind, environ, ("OMPI_COMM_WORLD_RANK",))
    index = _number(environ, "OMPI_COMM_WORLD_RANK")
    if ADDRESS in environ:
        return ProcessGroup(kind, count, index, *_given_address(environ))
    found = re.match(r"(\d+)\.\d+;tcp6?://\[?([^,:\]]+(?::[^,\]]+)?)", environ.get(uri, ""))
    if found is None:
        raise ConfigError(
            f"{kind} started {count} processes and {uri} does not say where the first is (version "
            f"5 does not set it); set {ADDRESS}=HOST:PORT, such as "
            f"mpirun -x {ADDRESS}=$(hostname):61440 ..."
        )
    host = re.split(r":\d+$", found[2])[0]
    # mpirun numbers its jobs in steps of 4096.
    port = 61_440 + int(found[1]) // 4096 % 4096
    return ProcessGroup(
        kind, count, index, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", uri
    )


def _given_address(environ: Mapping[str, str]) -> tuple[str, str]:
    address = environ[ADDRESS]
    if not re.fullmatch(r".+:\d{1,5}", address):
        raise ConfigError(f"{ADDRESS}={address!r} is no HOST:PORT, such as 10.0.0.1:61440.")
    return address, ADDRESS


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ[name]
    if not text.isdecimal():
        raise ConfigError(f"{name}={text!r} is no whole number of 0 or more.")
    return int(text)


def _check_whole(kind: str, environ: Mapping[str, str], names: tuple[str, ...]) -> None:
    missing = [name for name in names if not environ.get(name)]
    if missing:
        there = [f"{name}={environ[name]}" for name in names if environ.get(name)]
        raise ConfigError(
            f"the environment says by half that this is one of several processes ({kind}): "
            f"{', '.join(there) or 'nothing'} is set and {', '.join(missing)} is not. Set all of "
            f"{', '.join(names)}, or none for a single process."
        )
