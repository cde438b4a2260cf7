"""A job of Google Kubernetes Engine: the manifest of a JobSet, as JSON, which kubectl reads too."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any

from jaxgen.chips import CHIPS
from jaxgen.errors import RESTART_STATUS, ConfigError
from jaxgen.launch.job import Job

PORT = 61440
"""Of the coordinator, where pods have no TPU whose environment names one."""

ACCELERATORS = {
    "v4": "tpu-v4-podslice",
    "v5e": "tpu-v5-lite-podslice",
    "v5p": "tpu-v5p-slice",
    "v6e": "tpu-v6e-slice",
    "7x": "tpu7x",
}
"""Names of accelerators, cloud.google.com/kubernetes-engine/docs/concepts/tpus."""
SINGLE_HOST = {"v5e": ("1x1", "2x2", "2x4"), "v6e": ("1x1", "2x2", "2x4")}
"""Slices of one machine, which has 1, 4 or 8 chips (the same page)."""


@dataclasses.dataclass(frozen=True)
class GkeJob:
    """Where the pods of a job run.

    Attributes:
      job: what is run.
      image: of the container; jaxgen is installed in it.
      topology: of a TPU slice, such as "v5p:8x8x16"; None: GPUs.
      slices: how many such slices.
      nodes: with GPUs, how many.
      gpus_per_node: with GPUs.
      queue: Kueue's local queue; None: the cluster has no Kueue.
      namespace: of Kubernetes.
    """

    job: Job
    image: str
    topology: str | None = None
    slices: int = 1
    nodes: int = 1
    gpus_per_node: int = 0
    queue: str | None = None
    namespace: str = "default"

    def manifest(self) -> str:
        """Returns the manifest.

        Raises:
          ConfigError: if the topology is none of GKE's, or both kinds of chip are asked for.
        """
        if (self.topology is None) == (self.gpus_per_node == 0):
            raise ConfigError("give --topology for TPUs, or --nodes and --gpus_per_node for GPUs.")
        hosts, selector, chips = self._hosts()
        job = self.job
        labels = {} if self.queue is None else {"kueue.x-k8s.io/queue-name": self.queue}
        # A slice is a node pool of its own, which no other job shares.
        exclusive = "alpha.jobset.sigs.k8s.io/exclusive-topology"
        annotations = {exclusive: "cloud.google.com/gke-nodepool"} if self.topology else {}
        container = {
            "name": "jaxgen",
            "image": self.image,
            "command": job.words,
            "env": [{"name": name, "value": value} for name, value in self._environment(hosts)],
            "ports": [{"containerPort": PORT}],
            "resources": {"limits": chips},
        }
        pod = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": job.grace_seconds,
            "nodeSelector": selector,
            "containers": [container],
        }
        asks = {"containerName": "jaxgen", "operator": "In", "values": [RESTART_STATUS]}
        pods = {
            "parallelism": hosts,
            "completions": hosts,
            "completionMode": "Indexed",
            "backoffLimit": 0,  # The set starts all of them again, or none.
            # Of both the set makes the reason below.
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget"}]},
                    {"action": "FailJob", "onExitCodes": asks},
                ]
            },
            "template": {"spec": pod},
        }
        manifest: dict[str, Any] = {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {
                "name": job.name,
                "namespace": self.namespace,
                "labels": labels,
                "annotations": annotations,
            },
            "spec": {
                "failurePolicy": {
                    "maxRestarts": job.retries,
                    # Of a preemption, maintenance or a start that asks for another one there may be
                    # any number.
                    "rules": [
                        {
                            "action": "RestartJobSetAndIgnoreMaxRestarts",
                            "onJobFailureReasons": ["PodFailurePolicy"],
                        }
                    ],
                },
                "replicatedJobs": [
                    {"name": "slice", "replicas": self.slices, "template": {"spec": pods}}
                ],
            },
        }
        return json.dumps(manifest, indent=2) + "\n"

    def _hosts(self) -> tuple[int, dict[str, str], dict[str, int]]:
        """Returns the hosts of a slice, what selects their nodes, and the chips of a host."""
        if self.topology is None:
            return self.nodes, {}, {"nvidia.com/gpu": self.gpus_per_node}
        kind, shape, chips = split_topology(self.topology)
        selector = {
            "cloud.google.com/gke-tpu-accelerator": ACCELERATORS[kind],
            "cloud.google.com/gke-tpu-topology": shape,
        }
        of_a_host = math.prod(CHIPS[kind].host_bounds)
        if shape in SINGLE_HOST.get(kind, ()):
            return 1, selector, {"google.com/tpu": chips}
        if chips % of_a_host:
            raise ConfigError(
                f"--topology={self.topology} has {chips} chips, and hosts have {of_a_host}."
            )
        return chips // of_a_host, selector, {"google.com/tpu": of_a_host}

    def _environment(self, hosts: int) -> list[tuple[str, str]]:
        """Returns the variables; on TPUs, GKE itself adds those by which processes meet."""
        own = list(self.job.environment)
        if self.topology is None and hosts > 1:
            first = f"{self.job.name}-slice-0-0.{self.job.name}"
            own += [
                ("JAX_COORDINATOR_ADDRESS", f"{first}:{PORT}"),
                ("JAX_NUM_PROCESSES", str(hosts)),
            ]
        return own


def split_topology(topology: str) -> tuple[str, str, int]:
    """Returns the kind, the shape and the number of the chips of one such as "v5p:8x8x16".

    Raises:
      ConfigError: if it is none.
    """
    kind, _, shape = topology.partition(":")
    if kind not in ACCELERATORS or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise ConfigError(
            f"--topology={topology} is no CHIP:SHAPE such as v5p:8x8x16; chips are "
            f"{', '.join(ACCELERATORS)}."
        )
    return kind, shape, math.prod(int(size) for size in shape.split("x"))
