"""Results that take long are kept in a folder, and printed from there."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path


def make_or_print(
    description: str | None,
    names: Collection[str],
    make: Callable[[Path, str], None],
    table: Callable[[Path], list[str]],
) -> None:
    """Makes what is named on the command line, or prints a table of what is there.

    Args:
      description: of the command, of which the first line is told.
      names: of all that may be made.
      make: puts one into the folder, if it is not there.
      table: the lines that tell of a folder.
    """
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--folder", type=Path, required=True, help="where results are, as JSON")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if unknown := set(arguments.names) - set(names):
        parser.error(f"there are no {sorted(unknown)}; there are {', '.join(names)}")
    for name in arguments.names:
        make(arguments.folder, name)
    if not arguments.names:
        print("\n".join(table(arguments.folder)))
