"""Broken neural scaling laws are power laws whose exponent changes smoothly at breaks.

Caballero et al. (2210.14891): y = a + b x^-c0 prod_i (1 + (x / d_i)^(1 / f_i))^(-c_i f_i). Before
the first break the exponent is c0, after break i it is c_i more; f_i is the break's width in ln x.
"""

from __future__ import annotations

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit
from jaxgen.laws.fitting import Fitting, fit_table
from jaxgen.laws.huber_loss import LOG_LEAST_SQUARES
from jaxgen.laws.law import Law, by_complex_step
from jaxgen.laws.table import Columns, Table

CANDIDATES = 6000
"""Breaks that are tried in a linear fit; searches begin at the best of them."""
STARTS = 32
SHARES = (1e-3, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 0.98)
"""Starts of a, as shares of the least value."""
BEYOND = 0.5
"""How far beyond the data breaks are tried, in ranges of ln x."""
WIDTHS = (0.005, 0.5)
"""Widths of breaks that are tried, in ranges of ln x."""
MOST_POINTS = 400
"""Points of the linear fits."""


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
        rows = np.linspace(0, len(target) - 1, min(len(target), MOST_POINTS)).astype(int)
        rows = np.argsort(columns[column], kind="stable")[rows]
        log_x, target = np.log(columns[column][rows]), target[rows]
        rng = np.random.default_rng(0)
        count = CANDIDATES if breaks else len(SHARES)
        extent = max(float(np.ptp(log_x)), 1e-9)
        floors = np.tile(SHARES, count // len(SHARES) + 1)[:count] * target.min()
        # A break may begin to show before the data reach it.
        places = rng.uniform(-BEYOND, 1 + BEYOND, (count, breaks))
        places = np.sort(log_x.min() + extent * places, axis=1)
        narrow, wide = np.log(WIDTHS)
        widths = extent * np.exp(rng.uniform(narrow, wide, (count, breaks)))
        # Given a, the places and the widths, the rest is linear in the logarithm of y - a.
        away = (log_x[:, None] - places[:, None]) / widths[:, None]
        ones = np.ones((count, len(log_x), 1))
        design = np.concatenate(
            [ones, -log_x[:, None] * ones, -widths[:, None] * softplus(away)], 2
        )
        above = target - floors[:, None]
        weights = (above / target)[:, :, None]
        basis, triangle = np.linalg.qr(design * weights)
        wanted = np.log(above)[:, :, None] * weights
        along = basis.transpose(0, 2, 1) @ wanted
        missed = np.sum((wanted - basis @ along) ** 2, axis=(1, 2))
        best = np.argsort(missed, kind="stable")[:STARTS]
        linear = (np.linalg.pinv(triangle[best]) @ along[best])[:, :, 0]
        found = [np.log(floors[best]), linear[:, 0], linear[:, 1]]
        for i in range(breaks):
            found += [linear[:, 2 + i], places[best, i], np.log(widths[best, i])]
        return np.column_stack(found)

    bind = by_complex_step(logarithm, parameters, (column,))
    factors = "".join(f" (1 + (x / d{i})^(1 / f{i}))^(-c{i} f{i})" for i in numbers)
    formula = f"y = a + b x^-c0{factors}, x: {column}"
    name = f"broken power law, {breaks} {'break' if breaks == 1 else 'breaks'}"
    return Law(name, parameters, (column,), bind, starts, formula=formula)


def fit_broken(
    table: Table,
    fitting: Fitting = Fitting(LOG_LEAST_SQUARES),  # noqa: B008  # frozen
    starts: np.ndarray | None = None,
    *,
    breaks: int = 1,
    of: str = "flops",
    target: str = "loss",
) -> Fit:
    """Fits a broken law of one column by another, by least squares of logarithms.

    Args:
      table: the runs.
      fitting: how to fit; `LOG1P_LEAST_SQUARES` is the paper's loss, of log(y + 1).
      starts: [starts, parameters] working parameters; the law's own by default.
      breaks: number of breaks; 0 is a power law with a floor.
      of: the column of x.
      target: the column of y, positive.
    """
    return fit_table(broken_law(breaks, of), table, fitting, target, starts=starts)


def softplus(values: np.ndarray) -> np.ndarray:
    """Returns log(1 + exp(values)) without overflow, also for complex numbers."""
    is_high = np.real(values) > 0
    small = np.exp(np.where(is_high, -values, values))
    return np.where(is_high, values, 0.0) + np.log(1 + small)
