"""The arguments of `jaxgen launch`."""

from __future__ import annotations

from typing import Any

from jaxgen.parsing.arguments import COUNT


def add_commands(commands: Any) -> None:
    """Adds the command to those of a parser."""
    launch = commands.add_parser("launch", help="run a command in several processes")
    kinds = launch.add_subparsers(required=True, metavar="local")
    local = kinds.add_parser(
        "local",
        help="in processes of this machine",
        usage="jaxgen launch local [options] -- COMMAND ...",
    )
    local.add_argument("--processes", type=COUNT, required=True, help="number of processes")
    local.add_argument(
        "--devices_per_process", type=COUNT, default=1, help="devices of each; default: 1"
    )
    local.add_argument(
        "--platform", choices=("cpu", "gpu"), default="cpu", help="cpu simulates its devices"
    )
    local.add_argument("command", nargs="+", metavar="COMMAND", help="such as: train --run_dir=...")
    local.set_defaults(function=("launch", "local"))
