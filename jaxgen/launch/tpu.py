"""A job on TPU virtual machines: the gcloud commands from the request of a slice to its return."""

from __future__ import annotations

import dataclasses
import shlex

from jaxgen.errors import RESTART_STATUS, ConfigError
from jaxgen.launch.gke import split_topology
from jaxgen.launch.job import LONG_SECONDS, Job

TYPES = {"v4": ("v4", 2), "v5e": ("v5litepod", 1), "v5p": ("v5p", 2), "v6e": ("v6e", 1)}
"""Prefix of an accelerator type, and what it counts of a chip: its cores on v4 and v5p
(cloud.google.com/tpu/docs/v4, v5p, v5e, v6e)."""
RUNTIMES = {
    "v4": "tpu-ubuntu2204-base",
    "v5e": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
"""Images of the machines (cloud.google.com/tpu/docs/runtimes)."""


@dataclasses.dataclass(frozen=True)
class TpuJob:
    """A slice of virtual machines.

    Attributes:
      job: what is run; the run's folder is on a bucket, or on a disk that all machines mount.
      topology: such as "v5e:4x4".
      zone: of Google Cloud.
      spot: whether the slice may be taken away, for a lower price.
    """

    job: Job
    topology: str
    zone: str
    spot: bool = False

    def commands(self) -> list[list[str]]:
        """Returns the commands in order: request, wait, copy, install, run, return.

        Raises:
          ConfigError: if there are no such machines.
        """
        kind, _, chips = split_topology(self.topology)
        if kind not in TYPES:
            raise ConfigError(
                f"--topology={self.topology}: `jaxgen launch tpu` knows machines with "
                f"{', '.join(TYPES)}; use `jaxgen launch gke`."
            )
        prefix, cores = TYPES[kind]
        name, zone = self.job.name, f"--zone={self.zone}"
        request = ["gcloud", "compute", "tpus", "queued-resources"]
        machines = ["gcloud", "compute", "tpus", "tpu-vm"]
        on_all = ["ssh", name, zone, "--worker=all", "--command"]
        accelerator = [
            f"--accelerator-type={prefix}-{chips * cores}",
            f"--runtime-version={RUNTIMES[kind]}",
        ]
        return [
            [*request, "create", name, f"--node-id={name}", zone, *accelerator]
            + (["--spot"] if self.spot else []),
            [*request, "describe", name, zone, "--format=value(state.state)"],
            [*machines, "scp", "--recurse", ".", f"{name}:jaxgen", zone, "--worker=all"],
            [*machines, *on_all, "cd jaxgen && python3 -m pip install -q -e '.[tpu]'"],
            [*machines, *on_all, self.remote_command()],
            [*request, "delete", name, zone, "--force", "--quiet"],
        ]

    def remote_command(self) -> str:
        """Returns what every machine runs, again after a failure, with its log in a file."""
        job = self.job
        # The machines' own metadata says which others there are.
        variables = [
            f"{n}={shlex.quote(v)}" for n, v in (*job.environment, ("JAXGEN_CLUSTER", "gcetpu"))
        ]
        once = " ".join([*variables, shlex.join(["python3", *job.words[1:]])])
        # A start that asks for another one is no failure, unless it asks at once.
        is_asked = f"[ $status -eq {RESTART_STATUS} ] && [ $lasted -ge {LONG_SECONDS} ]"
        return (
            f"cd jaxgen && failures=0; while [ $failures -le {job.retries} ]; do "
            f"began=$(date +%s); {once} >> ~/{job.name}.log 2>&1 && break; "
            "status=$?; lasted=$(($(date +%s) - began)); "
            f"{is_asked} || failures=$((failures + 1)); sleep 10; done; tail -n 20 ~/{job.name}.log"
        )

    def script(self) -> str:
        """Returns the commands as a shell script, with what each is for."""
        texts = (
            "request the slice",
            "wait until this says ACTIVE",
            "copy the present folder",
            "install it",
            "run; give this one again to continue",
            "give the slice back",
        )
        lines = ["#!/bin/bash", "set -eu"]
        for text, words in zip(texts, self.commands(), strict=True):
            lines += [f"# {text}", shlex.join(words)]
        return "\n".join(lines) + "\n"
