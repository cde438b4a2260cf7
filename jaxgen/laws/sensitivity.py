"""What a fit's figures hang on: the same fit with one thing changed at a time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxgen.laws.chinchilla import fit_chinchilla
from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit
from jaxgen.laws.fitting import ROBUST, Fitting
from jaxgen.laws.table import Table

DELTAS = (1e-4, 1e-3, 1e-2, math.inf)
"""Of Huber's function."""
IRREDUCIBLES = (0.0, 0.5, 0.9)
"""Fixed E, over the fitted one."""

FitTable = Callable[[Table, Fitting], Fit]


@dataclasses.dataclass(frozen=True, eq=False)
class Variation:
    """A fit with one thing changed.

    Attributes:
      change: what, in words.
      fit: None where it could not be made.
      error: why it could not.
    """

    change: str
    fit: Fit | None
    error: str = ""


def drop_sizes(fit: FitTable, table: Table, fitting: Fitting = ROBUST) -> tuple[Variation, ...]:
    """Without each size of model in turn."""
    return tuple(
        _vary(
            f"without {size:.4g} parameters", fit, table.select(table.parameters != size), fitting
        )
        for size in np.unique(table.parameters)
    )


def vary_delta(
    fit: FitTable, table: Table, fitting: Fitting = ROBUST, deltas: Sequence[float] = DELTAS
) -> tuple[Variation, ...]:
    """With other deltas of Huber's function; an infinite one is least squares."""
    return tuple(
        _vary(
            f"delta {delta:g}",
            fit,
            table,
            dataclasses.replace(
                fitting, objective=dataclasses.replace(fitting.objective, delta=delta)
            ),
        )
        for delta in deltas
    )


def vary_parameters(
    fit: FitTable, table: Table, columns: Sequence[str], fitting: Fitting = ROBUST
) -> tuple[Variation, ...]:
    """With other counts of parameters, such as a column without embeddings; flops stay."""
    return tuple(
        _vary(f"parameters as {name}", fit, table.with_parameters(name), fitting)
        for name in columns
    )


def fix_irreducible(
    table: Table, values: Sequence[float] | None = None, fitting: Fitting = ROBUST
) -> tuple[Variation, ...]:
    """Chinchilla's law with E fixed.

    Args:
      table: of runs.
      values: of E; by default parts of the fitted one, and as good as none.
      fitting: how.
    """
    if values is None:
        fitted = fit_chinchilla(table, dataclasses.replace(fitting, bootstraps=0)).parameters["E"]
        values = [max(part * fitted, 1e-9) for part in IRREDUCIBLES]
    return tuple(
        _vary(
            f"E fixed at {value:.4g}",
            lambda rows, how, value=value: fit_chinchilla(rows, how, irreducible=value),
            table,
            fitting,
        )
        for value in values
    )


def _vary(change: str, fit: FitTable, table: Table, fitting: Fitting) -> Variation:
    try:
        return Variation(change, fit(table, fitting))
    except LawError as error:
        return Variation(change, None, str(error))
