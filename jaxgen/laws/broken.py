"""Broken neural scaling laws are power laws whose exponent changes smoothly at breaks.

Caballero et al. (2210.14891): y = a + b x^-c0 prod_i (1 + (x / d_i)^(1 / f_i))^(-c_i f_i). Before
the first break the exponent is c0, after break i it is c_i more; f_i is the break's width in ln x.
"""

from __future__ import annotations

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit
from jaxgen.laws.fitting import Fitting, fit_law
from jaxgen.laws.huber_loss import LOG_LEAST_SQUARES
from jaxgen.laws.law import Law, by_complex_step
from jaxgen.laws.table import Columns, Table

STARTS = 64
SHARES = (1e-3, 0.5, 0.9)
"""Starts of a, as shares of the least value."""


def broken_law(breaks: int, column: str) -> Law:
    """Returns the law with a number of breaks in a column."""
    if breaks < 0:
        raise LawError(f"breaks={breaks} must not be negative.")
    numbers = range(1, breaks + 1)
    each = [name for i in numbers for name in (f"c{i}", f"log_d{i}", f"log_f{i}")]
    parameters = ("log_a", "log_b", "c0", *each)

    def logarithm(named, columns: Columns) -> np.ndarray:
        log_x = np.log(columns[column])
        power = named["log_b"] - named["c0"] * log_x
        for i in numbers:
            width = np.exp(named[f"log_f{i}"])
            turn = softplus((log_x - named[f"log_d{i}"]) / width)
            power = power - named[f"c{i}"] * width * turn
        least = named["log_a"]
        largest = np.maximum(power.real, least.real)
        return largest + np.log(np.exp(power - largest) + np.exp(least - largest))

    def starts(columns: Columns, target: np.ndarray) -> np.ndarray:
        log_x = np.log(columns[column])
        rng = np.random.default_rng(0)
        found = []
        for number in range(STARTS if breaks else len(SHARES)):
            share = SHARES[number % len(SHARES)] * target.min()
            places = np.sort(rng.uniform(log_x.min(), log_x.max(), breaks))
            widths = np.exp(rng.uniform(np.log(0.05), np.log(1.0), breaks)) * np.ptp(log_x) / 4
            # Given a, the places and the widths, the rest is linear in the logarithm.
            turns = [w * softplus((log_x - p) / w) for p, w in zip(places, widths, strict=True)]
            design = np.column_stack([np.ones_like(log_x), -log_x, *(-turn for turn in turns)])
            linear = np.linalg.lstsq(design, np.log(target - share * 0.999), rcond=None)[0]
            vector = [np.log(share), linear[0], linear[1]]
            for i in range(breaks):
                vector += [linear[2 + i], places[i], np.log(widths[i])]
            found.append(vector)
        return np.array(found)

    bind = by_complex_step(logarithm, parameters, (column,))
    return Law(f"broken power law, {breaks} breaks", parameters, (column,), bind, starts)


def fit_broken(
    table: Table,
    breaks: int = 1,
    of: str = "flops",
    target: str = "loss",
    fitting: Fitting = Fitting(LOG_LEAST_SQUARES),  # noqa: B008  # frozen
) -> Fit:
    """Fits a broken law of one column by another, by least squares of logarithms (the paper's).

    Args:
      table: the runs.
      breaks: number of breaks; 0 is a power law with a floor.
      of: the column of x.
      target: the column of y, positive.
      fitting: how to fit.
    """
    groups = table.groups(fitting.resample)
    columns = {of: table.column(of)}
    return fit_law(broken_law(breaks, of), columns, table.column(target), fitting, groups=groups)


def softplus(values: np.ndarray) -> np.ndarray:
    """Returns log(1 + exp(values)) without overflow, also for complex numbers."""
    is_high = np.real(values) > 0
    small = np.exp(np.where(is_high, -values, values))
    return np.where(is_high, values, 0.0) + np.log(1 + small)
