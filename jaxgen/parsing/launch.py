"""The arguments of `jaxgen launch`."""

from __future__ import annotations

import argparse
from typing import Any

from jaxgen.parsing.arguments import AMOUNT, COUNT, PROCESSES, WHOLE


def add_commands(commands: Any) -> None:
    """Adds the command to those of a parser."""
    launch = commands.add_parser(
        "launch", help="run a command in several processes or on a cluster"
    )
    kinds = launch.add_subparsers(required=True, metavar="local|slurm|gke|tpu|ray")

    local = _kind(kinds, "local", "in processes of this machine")
    local.add_argument("--processes", type=PROCESSES, required=True, help="number of processes")
    local.add_argument(
        "--devices_per_process", type=COUNT, default=1, help="devices of each; default: 1"
    )
    local.add_argument(
        "--platform", choices=("cpu", "gpu"), default="cpu", help="cpu simulates its devices"
    )
    local.add_argument(
        "--restarts",
        type=WHOLE,
        default=0,
        help="starts after a failure, anew after each checkpoint; default: 0",
    )

    slurm = _job(kinds, "slurm", "as a job of Slurm: prints the script for sbatch")
    slurm.add_argument("--nodes", type=COUNT, required=True)
    slurm.add_argument("--processes_per_node", type=COUNT, default=1)
    slurm.add_argument("--gpus_per_node", type=WHOLE, default=0)
    slurm.add_argument("--cpus_per_process", type=COUNT, default=1)
    slurm.add_argument("--hours", type=AMOUNT, default=24.0, help="time limit of one start")
    slurm.add_argument("--logs", default="logs", help="folder of the output; default: logs")
    slurm.add_argument("--sbatch", action="append", help="an option for sbatch; repeatable")

    gke = _job(kinds, "gke", "on Google Kubernetes Engine: prints a JobSet for kubectl")
    gke.add_argument("--image", required=True, help="container image with jaxgen in it")
    gke.add_argument("--topology", metavar="CHIP:SHAPE", help="TPU slice, such as v5p:8x8x16")
    gke.add_argument("--slices", type=COUNT, default=1, help="number of TPU slices")
    gke.add_argument("--nodes", type=COUNT, default=1, help="number of nodes with GPUs")
    gke.add_argument("--gpus_per_node", type=WHOLE, default=0)
    gke.add_argument("--queue", help="local queue of Kueue")
    gke.add_argument("--namespace", default="default")

    tpu = _job(kinds, "tpu", "on TPU virtual machines: prints the gcloud commands")
    tpu.add_argument("--topology", required=True, metavar="CHIP:SHAPE", help="such as v5e:4x4")
    tpu.add_argument("--zone", required=True, help="of Google Cloud, such as us-east5-a")
    tpu.add_argument("--spot", action="store_true", help="cheaper, and may be taken away")

    ray = _job(kinds, "ray", "on a cluster of Ray: prints the command that submits it")
    ray.add_argument("--processes", type=COUNT, required=True)
    ray.add_argument("--cpus_per_process", type=COUNT, default=1)
    ray.add_argument("--gpus_per_process", type=WHOLE, default=0)
    ray.add_argument("--address", help="of Ray's dashboard; default: $RAY_ADDRESS")


def _job(kinds: Any, name: str, purpose: str) -> argparse.ArgumentParser:
    """Adds a kind of cluster, with the arguments that all have."""
    parser = _kind(kinds, name, purpose)
    parser.add_argument("--name", default="jaxgen", help="of the job; default: jaxgen")
    parser.add_argument("--env", action="append", metavar="NAME=VALUE", help="repeatable")
    parser.add_argument(
        "--retries",
        type=WHOLE,
        default=3,
        help="starts again after failures, to which preemptions do not count; default: 3",
    )
    parser.add_argument(
        "--grace", type=COUNT, default=120, help="seconds for a last checkpoint; default: 120"
    )
    parser.add_argument("--submit", action="store_true", help="submit it instead of printing it")
    return parser


def _kind(kinds: Any, name: str, purpose: str) -> argparse.ArgumentParser:
    usage = f"jaxgen launch {name} [options] -- COMMAND ..."
    parser = kinds.add_parser(name, help=purpose, usage=usage)
    parser.add_argument(
        "command", nargs="+", metavar="COMMAND", help="such as: train --run_dir=..."
    )
    parser.set_defaults(function=("launch", name))
    return parser
