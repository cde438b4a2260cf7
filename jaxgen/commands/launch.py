"""`jaxgen launch` runs a command in several processes, here or on a cluster."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from jaxgen.cluster_tools import run_tool
from jaxgen.errors import ConfigError
from jaxgen.launch.gke import GkeJob
from jaxgen.launch.job import Job
from jaxgen.launch.local import run_processes
from jaxgen.launch.ray import RayJob
from jaxgen.launch.slurm import SlurmJob
from jaxgen.launch.tpu import TpuJob
from jaxgen.slurm import submit


def local(arguments: argparse.Namespace) -> int:
    """Runs a command in processes of this machine. Returns its status.

    Args:
      arguments: `command`, `processes`, `devices_per_process`, `platform`, `restarts`.
    """
    return run_processes(
        [sys.executable, "-m", "jaxgen", *arguments.command],
        arguments.processes,
        arguments.devices_per_process,
        arguments.platform,
        arguments.restarts,
        _run_dir(arguments.command),
    )


def _run_dir(command: list[str]) -> Path | None:
    """Returns the folder that a command to train names."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--run_dir", type=Path)
    return finder.parse_known_args(command)[0].run_dir if command[0] == "train" else None


def slurm(arguments: argparse.Namespace) -> int:
    """Prints the sbatch script of a job, or submits it.

    Args:
      arguments: those of `_job`, `nodes`, `processes_per_node`, `gpus_per_node`,
        `cpus_per_process`, `hours`, `logs`, `sbatch`, `submit`.
    """
    job = _job(arguments)
    logs = Path(arguments.logs)
    script = SlurmJob(
        job,
        arguments.nodes,
        arguments.processes_per_node,
        arguments.gpus_per_node,
        arguments.cpus_per_process,
        arguments.hours,
        logs,
        arguments.sbatch or (),
    ).script()
    if not arguments.submit:
        print(script, end="")
        return 0
    print(submit(script, logs / f"{job.name}.sbatch"))
    return 0


def gke(arguments: argparse.Namespace) -> int:
    """Prints the manifest of a job, or applies it.

    Args:
      arguments: those of `_job`, `image`, `topology`, `slices`, `nodes`, `gpus_per_node`, `queue`,
        `namespace`, `submit`.
    """
    manifest = GkeJob(
        _job(arguments),
        arguments.image,
        arguments.topology,
        arguments.slices,
        arguments.nodes,
        arguments.gpus_per_node,
        arguments.queue,
        arguments.namespace,
    ).manifest()
    if not arguments.submit:
        print(manifest, end="")
        return 0
    print(run_tool(["kubectl", "apply", "-f", "-"], manifest))
    where = f"--namespace={arguments.namespace}"
    label = f"jobset.sigs.k8s.io/jobset-name={arguments.name}"
    print(f"logs: kubectl logs {where} --selector={label} --prefix --follow")
    return 0


def tpu(arguments: argparse.Namespace) -> int:
    """Prints the gcloud commands of a job, or requests its slice.

    Args:
      arguments: those of `_job`, `topology`, `zone`, `spot`, `submit`.
    """
    job = TpuJob(_job(arguments), arguments.topology, arguments.zone, arguments.spot)
    if arguments.submit:
        print(run_tool(job.commands()[0]))
        print("when it is ACTIVE, go on with:\n")
    print(job.script(), end="")
    return 0


def ray(arguments: argparse.Namespace) -> int:
    """Prints the command that submits a job to Ray, or runs it.

    Args:
      arguments: those of `_job`, `processes`, `cpus_per_process`, `gpus_per_process`, `address`,
        `submit`.
    """
    words = RayJob(
        _job(arguments),
        arguments.processes,
        arguments.cpus_per_process,
        arguments.gpus_per_process,
        arguments.address,
    ).submission()
    print(run_tool(words) if arguments.submit else shlex.join(words))
    return 0


def _job(arguments: argparse.Namespace) -> Job:
    """Returns the job of `command`, `name`, `env`, `retries` and `grace`."""
    pairs = []
    for one in arguments.env or ():
        name, equals, value = one.partition("=")
        if not equals:
            raise ConfigError(f"--env={one} has no value; write --env={one}=VALUE.")
        pairs.append((name, value))
    return Job(
        tuple(arguments.command), arguments.name, tuple(pairs), arguments.retries, arguments.grace
    )
