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
      arguments: `run_dir`, a run directory or None; `gin_files`, `bindings`; `topology`, `decode`,
        `search`, `compile`, `json`, `price_per_chip_hour`, `watts_per_chip`, `pue`.
    """
    if arguments.pue is not None and arguments.watts_per_chip is None:
        raise ConfigError("--pue multiplies --watts_per_chip; give that too.")
    if arguments.search and arguments.decode:
        raise ConfigError("--search is for training: leave out --decode.")
    config, execution = _load(arguments)
    from jaxgen.planning.plan import expense_of, make_plan
    from jaxgen.planning.printing import plan_lines, search_lines
    from jaxgen.planning.records import plan_record, search_record
    from jaxgen.planning.search import search
    from jaxgen.planning.topology import offer_devices, parse_topology

    topology = parse_topology(arguments.topology)
    offer_devices(topology)
    costs = (arguments.price_per_chip_hour, arguments.watts_per_chip, arguments.pue)
    record: dict[str, Any] = {}
    if arguments.search:
        found = search(config, execution, topology, arguments.compile, _report)
        print("\n".join(search_lines(found)) + "\n")
        made, record = found.plans[0], {"search": search_record(found)}
    else:
        _report(f"{topology}: some minutes for a large model")
        made = make_plan(config, execution, topology, arguments.decode)
    expense = expense_of(made, config, *costs)
    print("\n".join(plan_lines(made, expense)))
    record = plan_record(made, expense) | record
    if not made.fits and made.step == "train":
        from jaxgen.planning.changes import fitting_changes
        from jaxgen.planning.estimate import Estimator
        from jaxgen.planning.printing import changes_lines

        estimator = Estimator(config, topology, execution)
        changes = fitting_changes(made, estimator, config.train.batch_size)
        print("\n".join(changes_lines(changes)))
        record["changes"] = [{"flags": one.flags, "needed": one.needed} for one in changes]
    if arguments.json is not None:
        write_atomically(Path(arguments.json), json.dumps(record, indent=1) + "\n")
    return 0 if made.fits else 1


def _report(what: str) -> None:
    print(f"compiling for {what}", file=sys.stderr, flush=True)


def _load(arguments: argparse.Namespace) -> tuple[Any, Any]:
    gin_files, bindings = arguments.gin_files, arguments.bindings
    if arguments.run_dir is None:
        if not gin_files:
            raise ConfigError("name a run directory to plan for, or give --gin_file=FILE.")
        return load_run(gin_files, bindings)
    config_file = Path(arguments.run_dir) / "config.gin"
    if not config_file.is_file():
        raise ConfigError(
            f"{arguments.run_dir} is not a run directory: it has no config.gin. "
            f"A gin file is given as --gin_file={arguments.run_dir}."
        )
    return load_recorded_run(
        config_file, gin_files, ["execution.mesh=@mesh()", "execution.rules=@rules()", *bindings]
    )
