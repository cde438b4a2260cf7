"""`jaxgen launch` runs a command in several processes."""

from __future__ import annotations

import argparse
import sys

from jaxgen.launch.local import run_processes


def local(arguments: argparse.Namespace) -> int:
    """Runs a command in processes of this machine. Returns its status.

    Args:
      arguments: `command`, `processes`, `devices_per_process`, `platform`.
    """
    command = [sys.executable, "-m", "jaxgen", *arguments.command]
    return run_processes(
        command, arguments.processes, arguments.devices_per_process, arguments.platform
    )
