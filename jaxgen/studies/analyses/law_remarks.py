"""Sentences on what the numbers of a fitted law do not show by themselves."""

from __future__ import annotations

import numpy as np

from jaxgen.laws import Fit, Table
from jaxgen.laws.repeats import epochs_of, harmed_runs

NO_FLOOR = 1e-3
"""Share of the lowest loss below which E counts as 0."""
NO_DECAY = 100.0
"""Multiple of the largest number of epochs above which a decay counts as infinite."""


def remarks(fit: Fit, table: Table) -> list[str]:
    """Returns the remarks that apply: no floor, repetition without cost, harmful repetition."""
    return [one for one in (_floor(fit, table), _decays(fit, table), _harm(fit, table)) if one]


def _floor(fit: Fit, table: Table) -> str | None:
    if fit.parameters.get("E", np.inf) > NO_FLOOR * table.loss.min():
        return None
    return "The fitted E is zero: these runs show no irreducible loss."


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
        f"The fitted {' and '.join(endless)} is effectively infinite: up to {most:.3g} epochs, "
        "repetition costs these runs nothing that stands out from their scatter."
    )


def _harm(fit: Fit, table: Table) -> str | None:
    """Returns a sentence on runs that more epochs made worse, for laws that cannot rise."""
    if "P" in fit.parameters:
        return None
    epochs = epochs_of(table)
    harmed = harmed_runs(table, fit.noise)
    if not harmed:
        return None
    row, other = max(harmed, key=lambda pair: table.loss[pair[0]] / table.loss[pair[1]])
    return (
        f"In {len(harmed)} of the runs, more epochs over the same data increased the loss, at most "
        f"from {table.loss[other]:.3f} after {epochs[other]:.3g} to {table.loss[row]:.3f} after "
        f"{epochs[row]:.3g} with {table.parameters[row]:,.0f} parameters. This law never rises "
        "with epochs, so it misfits such runs and is biased by them."
    )
