"""Width and depth in a law: L = A / w^a + B / d^b + C / N^c + D / T^e + E (Gemstones, 2502.06857).

The paper warns that the exponents depend much on which shapes are fitted: with widths and depths
that go together, as in most ladders, the first three terms cannot be told apart.
"""

from __future__ import annotations

from jaxgen.laws.fit import Fit
from jaxgen.laws.fitting import ROBUST, Fitting, fit_table
from jaxgen.laws.power_terms import Term, power_terms
from jaxgen.laws.table import Table

SHAPE = power_terms(
    "width and depth (Gemstones)",
    [
        Term("A", {"width": "a"}),
        Term("B", {"depth": "b"}),
        Term("C", {"parameters": "c"}),
        Term("D", {"tokens": "e"}),
        Term("E"),
    ],
)


def fit_shape(table: Table, fitting: Fitting = ROBUST) -> Fit:
    """Fits it to a table with the columns `width` and `depth`."""
    return fit_table(SHAPE, table, fitting)
