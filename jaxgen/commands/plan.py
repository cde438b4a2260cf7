"""`jaxgen plan` says what a run needs of chips that are not here."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from jaxgen.configuration import load_recorded_run, load_run
from jaxgen.errors import ConfigError
from jaxgen.files import write_atomically


def plan(arguments: argparse.Namespace) -> int:
    """Compiles a run's step for a topology and prints what it needs. Returns 1 if it does not fit.

    Args:
      arguments: `run`, a run directory or None; `gin_files`, `bindings`; `topology`, `json`,
        `price_per_chip_hour`, `watts_per_chip`, `pue`.
    """
    if arguments.pue is not None and arguments.watts_per_chip is None:
        raise ConfigError("--pue multiplies --watts_per_chip; give that too.")
    config, execution = _load(arguments)
    from jaxgen.planning.plan import expense_of, make_plan
    from jaxgen.planning.printing import plan_lines
    from jaxgen.planning.records import plan_record
    from jaxgen.planning.topology import offer_devices, parse_topology

    topology = parse_topology(arguments.topology)
    offer_devices(topology)
    print(f"compiling for {topology}: some minutes for a large model", file=sys.stderr)
    made = make_plan(config, execution, topology)
    expense = expense_of(
        made,
        config,
        arguments.price_per_chip_hour,
        arguments.watts_per_chip,
        arguments.pue,
    )
    for line in plan_lines(made, expense):
        print(line)
    if arguments.json is not None:
        text = json.dumps(plan_record(made, expense), indent=1)
        write_atomically(Path(arguments.json), text + "\n")
    return 0 if made.fits else 1


def _load(arguments: argparse.Namespace) -> tuple[Any, Any]:
    gin_files, bindings = arguments.gin_files, arguments.bindings
    if arguments.run is None:
        if not gin_files:
            raise ConfigError("name a run directory to plan for, or give --gin_file=FILE.")
        return load_run(gin_files, bindings)
    config_file = Path(arguments.run) / "config.gin"
    if not config_file.is_file():
        raise ConfigError(
            f"{arguments.run} is not a run directory: it has no config.gin. A gin file is given as "
            f"--gin_file={arguments.run}."
        )
    return load_recorded_run(
        config_file, gin_files, ["execution.mesh=@mesh()", "execution.rules=@rules()", *bindings]
    )
