"""Runs that see data again, and those that this made worse."""

from __future__ import annotations

import numpy as np

from jaxgen.laws.table import Table

ONCE = 1.02
"""Epochs up to which data do not count as repeated."""
HARM = 0.02
"""Relative rise of the loss over a shorter run on the same data that counts as harm."""
LEAST_HARMED = 2
"""Runs that more epochs made worse, for a law with over-fitting."""


def epochs_of(table: Table) -> np.ndarray:
    """Returns [rows] the mean number of epochs of each run; 1 if the table does not say."""
    return table.tokens / table.columns.get("unique_tokens", table.tokens)


def harmed_runs(table: Table, least: float) -> list[tuple[int, int]]:
    """Returns runs that are worse than a shorter run of their size and data, and those runs.

    Args:
      table: of runs.
      least: difference of log losses that counts.
    """
    epochs = epochs_of(table)
    pools = table.tokens / epochs
    best: dict[tuple[float, str], int] = {}
    found = []
    for row in np.argsort(table.tokens, kind="stable"):
        if epochs[row] <= ONCE:
            continue
        # Rounding of an epoch's rows must not keep runs on the same data apart.
        of = (float(table.parameters[row]), f"{pools[row]:.3g}")
        other = best.setdefault(of, row)
        if table.loss[row] <= table.loss[other]:
            best[of] = row
        elif np.log(table.loss[row] / table.loss[other]) > least:
            found.append((int(row), int(other)))
    return found
