"""Laws of sparse models: of the number of experts, of their granularity and of their sparsity."""

from __future__ import annotations

import numpy as np

from jaxgen.laws.fit import Fit
from jaxgen.laws.fitting import ROBUST, Fitting, fit_table
from jaxgen.laws.law import Law, by_complex_step
from jaxgen.laws.power_terms import Term, power_terms
from jaxgen.laws.table import Columns, Table

GRANULARITY = power_terms(
    "MoE granularity (Krajewski)",
    [
        Term("g", {"granularity": "gamma", "parameters": "alpha"}),
        Term("a", {"parameters": "alpha"}),
        Term("b", {"tokens": "beta"}),
        Term("c"),
    ],
)
"""L = c + (g / G^gamma + a) / N^alpha + b / D^beta (2402.07871), G the granularity."""

SPARSITY = power_terms(
    "MoE sparsity (Abnar)",
    [
        Term("a", {"parameters": "alpha"}),
        Term("b", {"tokens": "beta"}),
        Term("c", {"active_fraction": "lambda"}),
        Term("d", {"active_fraction": "delta", "parameters": "gamma"}),
        Term("e"),
    ],
)
"""L = a / N^alpha + b / D^beta + c / (1-S)^lambda + d / ((1-S)^delta N^gamma) + e (2501.12370).

The column `active_fraction` is 1 - S = K / E, the part of a layer's experts that a token uses."""

SATURATIONS = ((1.5, 100.0), (1.5, 1000.0), (4.0, 300.0), (4.0, 3000.0))
"""Starts of E_start and E_max."""
BILINEAR = ("a", "b", "c", "d")


def effective_experts(experts: np.ndarray, start: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Clark's saturating number of experts: `start` of one expert, `most` of infinitely many.

    1 / E^ = 1 / (E - 1 + (1 / start - 1 / most)^-1) + 1 / most.
    """
    return 1 / (1 / (experts - 1 + 1 / (1 / start - 1 / most)) + 1 / most)


def _experts_law() -> Law:
    parameters = (*BILINEAR, "log_E_start", "log_E_max")
    inputs = ("parameters", "experts")

    def logarithm(named, columns: Columns) -> np.ndarray:
        start, most = np.exp(named["log_E_start"]), np.exp(named["log_E_max"])
        log_experts = np.log(effective_experts(columns["experts"], start, most)) / np.log(10)
        log_size = np.log10(columns["parameters"])
        of_both = named["c"] * log_size * log_experts
        sum_ = named["a"] * log_size + named["b"] * log_experts + of_both + named["d"]
        return np.log(10) * sum_

    def starts(columns: Columns, target: np.ndarray) -> np.ndarray:
        found = []
        for start, most in SATURATIONS:
            counts = effective_experts(columns["experts"], np.array(start), np.array(most))
            log_experts, log_size = np.log10(counts), np.log10(columns["parameters"])
            ones = np.ones_like(log_size)
            design = np.column_stack([log_size, log_experts, log_size * log_experts, ones])
            linear = np.linalg.lstsq(design, np.log10(target), rcond=None)[0]
            found.append([*linear, np.log(start), np.log(most)])
        return np.array(found)

    bind = by_complex_step(logarithm, parameters, inputs)
    return Law("MoE experts (Clark)", parameters, inputs, bind, starts)


EXPERTS = _experts_law()
"""log10 L = a log10 N + b log10 E^ + c log10 N log10 E^ + d (2202.01169).

With logarithms to base ten its published coefficients give plausible losses, with natural ones they
do not. The tokens are the same in all runs."""
CLARK_SBASE = {
    "a": -0.082, "b": -0.108, "c": 0.009, "d": 1.104, "E_start": 1.847, "E_max": 314.478,
}  # fmt: skip
"""Published for S-BASE routing, at 130e9 tokens."""


def fit_experts(table: Table, fitting: Fitting = ROBUST) -> Fit:
    """Fits Clark's law: of a dense model's parameters and the column `experts`."""
    return fit_table(EXPERTS, table, fitting)


def fit_granularity(table: Table, fitting: Fitting = ROBUST) -> Fit:
    """Fits Krajewski's law: the column `granularity` besides parameters and tokens."""
    return fit_table(GRANULARITY, table, fitting)


def fit_sparsity(table: Table, fitting: Fitting = ROBUST) -> Fit:
    """Fits Abnar's law: the column `active_fraction` besides (all) parameters and tokens."""
    return fit_table(SPARSITY, table, fitting)
