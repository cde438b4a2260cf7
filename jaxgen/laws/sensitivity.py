"""The sensitivity of a fit shows when one thing is changed at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit
from jaxgen.laws.fitting import ROBUST, Fitting
from jaxgen.laws.table import Table

FitTable = Callable[[Table, Fitting], Fit]


@dataclasses.dataclass(frozen=True, eq=False)
class Variation:
    """A variation is a fit with one thing changed.

    Attributes:
      change: the change, in words.
      fit: None where the fit failed.
      error: why it failed, else empty.
    """

    change: str
    fit: Fit | None
    error: str = ""


def drop_sizes(fit: FitTable, table: Table, fitting: Fitting = ROBUST) -> tuple[Variation, ...]:
    """Fits without each size of model in turn."""
    return tuple(
        _vary(
            f"without {size:.4g} parameters", fit, table.select(table.parameters != size), fitting
        )
        for size in np.unique(table.parameters)
    )


def vary_delta(
    fit: FitTable, table: Table, fitting: Fitting, deltas: Sequence[float]
) -> tuple[Variation, ...]:
    """Fits with other deltas of the Huber loss; an infinite one is least squares."""
    return tuple(
        _vary(
            f"delta {delta:g}",
            fit,
            table,
            dataclasses.replace(
                fitting, fit_loss=dataclasses.replace(fitting.fit_loss, delta=delta)
            ),
        )
        for delta in deltas
    )


def vary_parameters(
    fit: FitTable, table: Table, columns: Sequence[str], fitting: Fitting = ROBUST
) -> tuple[Variation, ...]:
    """Fits with other columns as the number of parameters; FLOPs stay."""
    return tuple(
        _vary(f"parameters as {name}", fit, table.with_parameters(name), fitting)
        for name in columns
    )


def _vary(change: str, fit: FitTable, table: Table, fitting: Fitting) -> Variation:
    try:
        return Variation(change, fit(table, fitting))
    except LawError as error:
        return Variation(change, None, str(error))
