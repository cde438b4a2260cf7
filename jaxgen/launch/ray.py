"""A job of Ray: a driver on the cluster that starts the processes as tasks, and again if one fails.

python -m jaxgen.launch.ray --processes 2 --gpus_per_process 8 --retries 3 -- train ...
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import time
from typing import Any

from jaxgen.errors import JaxgenError
from jaxgen.launch.job import Job
from jaxgen.launch.local import free_port


@dataclasses.dataclass(frozen=True)
class RayJob:
    """The resources of a job.

    Attributes:
      job: what is run.
      processes: how many; each is a task of Ray's, on any node with room.
      cpus_per_process: cores.
      gpus_per_process: GPUs.
      address: of Ray's dashboard, such as http://head:8265; None: $RAY_ADDRESS.
    """

    job: Job
    processes: int
    cpus_per_process: int = 1
    gpus_per_process: int = 0
    address: str | None = None

    def submission(self) -> list[str]:
        """Returns the command that submits it, with the present folder."""
        job = self.job
        driver = [
            "python", "-m", "jaxgen.launch.ray", f"--processes={self.processes}",
            f"--cpus_per_process={self.cpus_per_process}",
            f"--gpus_per_process={self.gpus_per_process}", f"--retries={job.retries}",
        ]  # fmt: skip
        where = [] if self.address is None else [f"--address={self.address}"]
        runtime = json.dumps({"env_vars": dict(job.environment)})
        return [
            "ray", "job", "submit", *where, f"--submission-id={job.name}-{int(time.time())}",
            "--working-dir=.", f"--runtime-env-json={runtime}", "--no-wait", "--",
            shlex.join([*driver, "--", *job.command]),
        ]  # fmt: skip


def drive(arguments: argparse.Namespace, **options: Any) -> int:
    """Starts the processes and waits for them; all again, if one fails. Returns the status.

    Args:
      arguments: `command`, `processes`, `cpus_per_process`, `gpus_per_process`, `retries`.
      **options: for `ray.init`.
    """
    import ray
    from ray.exceptions import RayError

    ray.init(**options)
    resources = {"num_cpus": arguments.cpus_per_process, "num_gpus": arguments.gpus_per_process}
    member: Any = ray.remote(max_restarts=0, **resources)(_Member)
    job, failures = Job(tuple(arguments.command), retries=arguments.retries), 0
    while True:
        began = time.monotonic()
        members = [member.remote() for _ in range(arguments.processes)]
        address = ray.get(members[0].address.remote())
        count, command = arguments.processes, arguments.command
        running = [
            one.run.remote(command, address, count, index) for index, one in enumerate(members)
        ]
        status = 0
        while running and status == 0:
            done, running = ray.wait(running)
            try:
                status = max(map(abs, ray.get(done)))
            except RayError as error:  # Its node went away.
                print(f"a process was lost: {error}", file=sys.stderr, flush=True)
                status = 1
        for one in members:
            ray.kill(one)
        failures += job.is_failure(status, time.monotonic() - began)
        if status == 0 or failures > job.retries:
            break
        print(f"status {status}: started again", file=sys.stderr, flush=True)
    ray.shutdown()
    return status


class _Member:
    """One process of the program, and the actor that holds its place on a node."""

    def address(self) -> str:
        """Returns HOST:PORT, which is free here, by the address that Ray knows the node by."""
        import ray

        return f"{ray.util.get_node_ip_address()}:{free_port()}"

    def run(self, command: list[str], address: str, count: int, index: int) -> int:
        """Runs a command of jaxgen to its end. Returns its status."""
        group = {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(count),
            "JAX_PROCESS_ID": str(index),
        }
        words = [sys.executable, "-m", "jaxgen", *command]
        return subprocess.run(words, env=os.environ | group).returncode


def main() -> int:
    """Drives a job from its command line."""
    parser = argparse.ArgumentParser()
    for name in ("processes", "cpus_per_process", "gpus_per_process", "retries"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("command", nargs="+")
    try:
        return drive(parser.parse_args())
    except JaxgenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
