"""`jaxgen profile`: what traced steps of a run spent their time on."""

from __future__ import annotations

import argparse

from jaxgen.commands.table import table_lines
from jaxgen.planning.trace import Spent, read_profile
from jaxgen.runs.run_directory import RunDirectory


def profile(arguments: argparse.Namespace) -> int:
    """Prints a step's time by kind of operation, and its longest instructions.

    Args:
      arguments: `run_dir`, `longest`.
    """
    found = read_profile(RunDirectory(arguments.run_dir).path, arguments.longest)
    print(f"steps {found.steps[0]} to {found.steps[1]}, the mean of a step:")
    heading = ("time", "share", "count")
    print("\n".join(table_lines([("kind of operation", *heading), *map(_cells, found.kinds)])))
    rows = [(one.name, one.operation, *_cells(one)[1:]) for one in found.longest]
    heading = ("longest instructions", "of", *heading)
    print()
    print("\n".join(table_lines([heading, *rows], left=2)))
    print(f"\ntrace: {found.folder}  (xprof --logdir, or ui.perfetto.dev)")
    return 0


def _cells(spent: Spent) -> tuple[str, str, str, str]:
    return (
        spent.name,
        f"{1e3 * spent.seconds:.3f} ms",
        f"{100 * spent.share:.1f} %",
        f"{spent.count:g}",
    )
