"""What a reader must know of a fitted law and its numbers do not say: sentences."""

from __future__ import annotations

import numpy as np

from jaxgen.laws import Fit, Table
from jaxgen.studies.law_selection import ONCE, epochs_of

NO_FLOOR = 1e-3
"""Of the least loss, below which E is as good as 0."""
NO_DECAY = 100.0
"""Times the largest number of epochs, from which a decay is as good as none."""


def remarks(fit: Fit, table: Table) -> list[str]:
    """Those that hold: no floor, repeats that cost nothing, repeats that do harm."""
    return [one for one in (_floor(fit, table), _decays(fit, table), _harm(fit, table)) if one]


def _floor(fit: Fit, table: Table) -> str | None:
    if fit.parameters.get("E", np.inf) > NO_FLOOR * table.loss.min():
        return None
    return "E comes out as nothing: these runs show no loss that would remain."


def _decays(fit: Fit, table: Table) -> str | None:
    most = float(np.max(epochs_of(table)))
    endless = [
        name
        for name in ("token_decay", "parameter_decay")
        if fit.parameters.get(name, 0.0) > NO_DECAY * most
    ]
    if not endless:
        return None
    return (
        f"There is no end to {' and '.join(endless)}: on data seen up to {most:.3g} times these "
        "runs lose nothing by it that the law can tell from their scatter."
    )


def _harm(fit: Fit, table: Table) -> str | None:
    """Of runs that are worse than a shorter one of their size on the same data."""
    epochs = epochs_of(table)
    pools = table.tokens / epochs
    best: dict[tuple[float, str], int] = {}
    harmed = []
    for row in np.argsort(table.tokens, kind="stable"):
        if epochs[row] <= ONCE:
            continue
        # Rounding of an epoch's rows must not keep runs on the same data apart.
        of = (float(table.parameters[row]), f"{pools[row]:.3g}")
        other = best.setdefault(of, row)
        if table.loss[row] <= table.loss[other]:
            best[of] = row
        elif np.log(table.loss[row] / table.loss[other]) > fit.noise:
            harmed.append((row, other))
    if not harmed:
        return None
    row, other = max(harmed, key=lambda pair: table.loss[pair[0]] / table.loss[pair[1]])
    return (
        f"In {len(harmed)} of the runs more rounds over the same data did harm: at most from "
        f"{table.loss[other]:.3f} after {epochs[other]:.3g} to {table.loss[row]:.3f} after "
        f"{epochs[row]:.3g}, with {table.parameters[row]:,.0f} parameters. This law knows no harm, "
        "so it is wrong about such runs and bent by them."
    )
